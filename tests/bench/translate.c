/* What translating the reply of GetManagedObjects costs: GVariants taken apart and built anew, against the
 * streaming pass, against the check alone.
 *
 *   translate [OBJECTS]     (200)
 *
 * The objects are like NetworkManager's: three interfaces each, properties of all the usual types, object
 * paths among them. The rebuild includes what a GDBus bridge pays beside it: decoding the message and
 * marshalling the new one. The three follow one another round by round; the least of each is printed, in µs.
 */
#include "introspect/translate.h"
#include "wire/body.h"
#include <gio/gio.h>

#define ROUNDS 60
#define PREFIX                                                                                               \
    "/ie/bmcgee/CBus/UAXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX/org_2eexample_2eManager"

static GVariant *
make_interface(guint object)
{
    g_autofree char *name = g_strdup_printf("device-%u", object);
    g_autofree char *path = g_strdup_printf("/org/example/Manager/Active/%u", object);
    GVariantBuilder properties;
    g_variant_builder_init(&properties, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&properties, "{sv}", "Name", g_variant_new_string(name));
    g_variant_builder_add(&properties, "{sv}", "State", g_variant_new_uint32(object));
    g_variant_builder_add(&properties, "{sv}", "Managed", g_variant_new_boolean(TRUE));
    g_variant_builder_add(&properties, "{sv}", "LastSeen",
                          g_variant_new_int64(object * G_GINT64_CONSTANT(7919)));
    g_variant_builder_add(&properties, "{sv}", "Active", g_variant_new_object_path(path));
    g_variant_builder_add(&properties, "{sv}", "None", g_variant_new_object_path("/"));
    g_variant_builder_add(&properties, "{sv}", "Flags", g_variant_new_parsed("['a', 'network', 'wired']"));
    g_variant_builder_add(&properties, "{sv}", "Address", g_variant_new_bytestring("02:00:00:00:00:01"));
    g_variant_builder_add(&properties, "{sv}", "Data",
                          g_variant_new_parsed("[{'address', <'10.0.0.1'>}, {'prefix', <uint32 24>}]"));
    return g_variant_builder_end(&properties);
}

/* (transfer full) */
static GVariant *
make_body(guint objects)
{
    static const char *const interfaces[] = {"org.example.Manager.Device", "org.example.Manager.Device.Wired",
                                             "org.example.Manager.Device.Statistics"};
    GVariantBuilder all;
    g_variant_builder_init(&all, G_VARIANT_TYPE("(a{oa{sa{sv}}})"));
    g_variant_builder_open(&all, G_VARIANT_TYPE("a{oa{sa{sv}}}"));
    for (guint i = 0; i < objects; i++) {
        g_autofree char *path = g_strdup_printf("/org/example/Manager/Devices/%u", i);
        GVariantBuilder object;
        g_variant_builder_init(&object, G_VARIANT_TYPE("a{sa{sv}}"));
        for (gsize j = 0; j < G_N_ELEMENTS(interfaces); j++)
            g_variant_builder_add(&object, "{s@a{sv}}", interfaces[j], make_interface(i));
        g_variant_builder_add(&all, "{oa{sa{sv}}}", path, &object);
    }
    g_variant_builder_close(&all);
    return g_variant_ref_sink(g_variant_builder_end(&all));
}

/* (floating or not: take it) */
static GVariant *
rebuild(GVariant *value)
{
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_OBJECT_PATH)) {
        const char *path = g_variant_get_string(value, NULL);
        g_autofree char *local = g_strconcat(PREFIX, path, NULL);
        return g_variant_new_object_path(path[1] == '\0' ? path : local);
    }
    if (!g_variant_is_container(value))
        return g_variant_ref(value);
    GVariantBuilder builder;
    GVariantIter children;
    g_variant_builder_init(&builder, g_variant_get_type(value));
    g_variant_iter_init(&children, value);
    for (GVariant *child; (child = g_variant_iter_next_value(&children)) != NULL; g_variant_unref(child)) {
        g_autoptr(GVariant) mapped = g_variant_take_ref(rebuild(child));
        g_variant_builder_add_value(&builder, mapped);
    }
    return g_variant_builder_end(&builder);
}

static guint8 *
marshal(GVariant *body, gsize *size)
{
    g_autoptr(GDBusMessage) message = g_dbus_message_new_signal("/a", "a.b", "C");
    g_autoptr(GError) error = NULL;
    g_dbus_message_set_serial(message, 1);
    g_dbus_message_set_body(message, body);
    guint8 *data = g_dbus_message_to_blob(message, size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);
    g_assert_no_error(error);
    return data;
}

static guint8 *
by_gvariant(const guint8 *data, gsize size, gsize *out_size)
{
    g_autoptr(GDBusMessage) message =
        g_dbus_message_new_from_blob((guchar *)data, size, G_DBUS_CAPABILITY_FLAGS_NONE, NULL);
    g_assert_nonnull(message);
    g_autoptr(GVariant) body = g_variant_take_ref(rebuild(g_dbus_message_get_body(message)));
    return marshal(body, out_size);
}

static void
by_stream(const CbusMessage *view, GByteArray *out)
{
    const CbusTranslation translation = {.direction = CBUS_TO_LOCAL, .prefix = CBUS_SPAN_LITERAL(PREFIX)};
    g_byte_array_set_size(out, 0);
    if (!cbus_translate_body(out, view->body, view->body_len, view->endian, view->signature, &translation,
                             CBUS_MESSAGE_MAX, NULL))
        g_error("the body was refused");
}

int
main(int argc, char **argv)
{
    guint objects = argc > 1 ? (guint)g_ascii_strtoull(argv[1], NULL, 10) : 200;
    g_autoptr(GVariant) body = make_body(objects);
    gsize size;
    g_autofree guint8 *data = marshal(body, &size);
    CbusMessage view, expected;
    if (!cbus_message_view(&view, data, size, NULL))
        g_error("the message was refused");
    gint64 gvariant = G_MAXINT64, stream = G_MAXINT64, check = G_MAXINT64;
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (guint i = 0; i < ROUNDS; i++) {
        gint64 start = g_get_monotonic_time();
        gsize rebuilt_size;
        g_autofree guint8 *rebuilt = by_gvariant(data, size, &rebuilt_size);
        gint64 middle = g_get_monotonic_time();
        by_stream(&view, out);
        gint64 late = g_get_monotonic_time();
        if (!cbus_body_check(view.body, view.body_len, view.endian, view.signature, NULL))
            g_error("the body was refused");
        gint64 end = g_get_monotonic_time();
        gvariant = MIN(gvariant, middle - start);
        stream = MIN(stream, late - middle);
        check = MIN(check, end - late);
        if (!cbus_message_view(&expected, rebuilt, rebuilt_size, NULL) || expected.body_len != out->len ||
            memcmp(expected.body, out->data, out->len) != 0)
            g_error("the two differ");
    }
    g_print("GetManagedObjects of %u objects, %" G_GSIZE_FORMAT " bytes, %u translated\n", objects, size,
            out->len);
    g_print("GVariant rebuild %8" G_GINT64_FORMAT " µs\nstreaming pass   %8" G_GINT64_FORMAT
            " µs\ncheck alone      %8" G_GINT64_FORMAT " µs\n",
            gvariant, stream, check);
    return 0;
}
