/* The answer to GetManagedObjects on the root, from bytes that are kept.
 *
 * Every verb of the command line begins with this question, and with a thousand machines GDBus took 80 ms to
 * build and marshal the answer: as long, nobody else's call was forwarded. Here each machine's properties are
 * marshalled once (40 µs) and kept until one of them changes; an answer copies them together, in 3 ms.
 *
 * Properties without change signals (when a machine was last heard, its round trip) can not be kept: they are
 * written anew each time, behind the others. Bodies are aligned to 8 and so are dictionary entries, so that
 * marshalled entries are valid wherever another would stand.
 *
 * Costs some 1 KiB a machine, once somebody asked. What machines say of themselves is bounded where it comes
 * in; an answer that D-Bus has no room for is LimitsExceeded. */
#include "proxy/listing.h"

#include "proxy/interfaces.h"
#include "wire/key.h"

#include <string.h>

#define SIGNATURE   "a{oa{sa{sv}}}"
#define ARRAY_MAX   (64u * 1024 * 1024)
#define HEADER_ROOM 1024
#define LENGTH      8 /* of an array of dictionary entries: a u32 and padding */

static const char *const unkept[] = {"LastSeen", "RoundTrip"};

struct _CbusListing {
    GHashTable *kept; /* CbusMachine → GBytes: dictionary entries {sv} */
};

CbusListing *
cbus_listing_new(void)
{
    CbusListing *listing = g_new0(CbusListing, 1);

    listing->kept = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)g_bytes_unref);
    return listing;
}

void
cbus_listing_free(CbusListing *listing)
{
    g_hash_table_unref(listing->kept);
    g_free(listing);
}

void
cbus_listing_forget(CbusListing *listing, const CbusMachine *machine)
{
    g_hash_table_remove(listing->kept, machine);
}

/* ---- what is kept ---- */

static gboolean
is_unkept(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(unkept); i++) {
        if (strcmp(name, unkept[i]) == 0) {
            return TRUE;
        }
    }
    return FALSE;
}

/* The machine's other properties, marshalled; NULL when they are too large for that. */
static GBytes *
marshal(CbusMachine *machine)
{
    g_autoptr(GVariant) properties = g_variant_ref_sink(cbus_machine_properties(machine));
    g_autoptr(GDBusMessage) message = g_dbus_message_new();
    GVariantBuilder builder;
    GVariantIter iter;
    GVariant *value;
    const char *name;
    CbusMessage view;
    gsize size;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    g_variant_iter_init(&iter, properties);
    while (g_variant_iter_loop(&iter, "{&sv}", &name, &value)) {
        if (!is_unkept(name)) {
            g_variant_builder_add(&builder, "{sv}", name, value);
        }
    }
    g_dbus_message_set_message_type(message, G_DBUS_MESSAGE_TYPE_METHOD_RETURN);
    g_dbus_message_set_reply_serial(message, 1);
    g_dbus_message_set_serial(message, 1);
    g_dbus_message_set_body(message, g_variant_new("(@a{sv})", g_variant_builder_end(&builder)));
    g_autofree guchar *blob = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, NULL);
    if (blob == NULL || !cbus_message_view(&view, blob, size, NULL)) {
        return NULL;
    }
    return g_bytes_new(view.body + LENGTH, view.body_len - LENGTH);
}

static GBytes *
look_up(CbusListing *listing, CbusMachine *machine)
{
    GBytes *bytes = g_hash_table_lookup(listing->kept, machine);

    if (bytes == NULL && (bytes = marshal(machine)) != NULL) {
        g_hash_table_insert(listing->kept, machine, bytes);
    }
    return bytes;
}

/* ---- writing; OUT begins 8-aligned ---- */

static void
align(GByteArray *out, guint to)
{
    static const guint8 zeros[8];

    g_byte_array_append(out, zeros, (to - out->len % to) % to);
}

static void
put(GByteArray *out, const void *data, gsize size)
{
    g_byte_array_append(out, data, (guint)size);
}

/* A string or an object path. */
static void
put_text(GByteArray *out, const char *text)
{
    guint32 length = (guint32)strlen(text);

    align(out, 4);
    put(out, &length, sizeof length);
    put(out, text, (gsize)length + 1);
}

/* Begins an array of dictionary entries; returns where they begin. */
static guint
open_array(GByteArray *out)
{
    align(out, 4);
    put(out, &(guint32){0}, sizeof(guint32));
    align(out, 8);
    return out->len;
}

/* AT: where the length of the array stands whose entries begin at START. */
static void
close_array(GByteArray *out, guint at, guint start)
{
    guint32 length = out->len - start;

    memcpy(out->data + at, &length, sizeof length);
}

static void
put_number(GByteArray *out, const char *name, GVariant *value)
{
    g_autoptr(GVariant) sunk = g_variant_ref_sink(value);
    guint64 number = g_variant_get_uint64(sunk);

    align(out, 8);
    put_text(out, name);
    put(out, "\1t", 3); /* the signature */
    align(out, 8);
    put(out, &number, sizeof number);
}

/* {path: {interface: {properties}}} */
static void
put_machine(GByteArray *out, CbusMachine *machine, GBytes *kept)
{
    gsize size;
    gconstpointer entries = g_bytes_get_data(kept, &size);
    guint interfaces_at, interfaces, properties_at, properties;

    align(out, 8);
    put_text(out, cbus_machine_path(machine));
    interfaces_at = (out->len + 3) & ~3u;
    interfaces = open_array(out);
    put_text(out, CBUS_INTERFACE_MACHINE);
    properties_at = (out->len + 3) & ~3u;
    properties = open_array(out);
    put(out, entries, size);
    for (gsize i = 0; i < G_N_ELEMENTS(unkept); i++) {
        put_number(out, unkept[i], cbus_machine_property(machine, unkept[i]));
    }
    close_array(out, properties_at, properties);
    close_array(out, interfaces_at, interfaces);
}

/* FALSE: more than an array may hold. */
static gboolean
put_machines(GByteArray *out, CbusListing *listing, const GPtrArray *machines)
{
    guint start = open_array(out);

    for (guint i = 0; i < machines->len; i++) {
        CbusMachine *machine = g_ptr_array_index(machines, i);
        GBytes *kept = look_up(listing, machine);

        if (kept == NULL || out->len + g_bytes_get_size(kept) > ARRAY_MAX - 1024) {
            return FALSE;
        }
        put_machine(out, machine, kept);
    }
    close_array(out, 0, start);
    return out->len - start <= ARRAY_MAX;
}

void
cbus_listing_reply(CbusListing *listing, const GPtrArray *machines, CbusFront *front, const CbusMessage *call)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    if (!put_machines(body, listing, machines) || body->len > cbus_front_message_max(front) - HEADER_ROOM) {
        cbus_front_reply_error(front, call, CBUS_DBUS_ERROR("LimitsExceeded"),
                               "The properties of all machines are more than one answer may hold");
        return;
    }
    CbusHeader header = cbus_front_reply_header(front, call);
    header.signature = CBUS_SPAN_LITERAL(SIGNATURE);
    GByteArray *out = cbus_front_begin(front);
    (void)cbus_header_append(out, &header, body->len);
    g_byte_array_append(out, body->data, body->len);
    cbus_front_end(front);
}
