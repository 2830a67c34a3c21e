/* Taking entries out of marshalled dictionaries.
 *
 * GetAll, GetManagedObjects, PropertiesChanged and the ObjectManager's signals carry properties of several
 * interfaces in one body. To deny them whole for one secret would make a policy useless; to pass them whole
 * would make it pointless. So the entries that may not be read are left out, and the rest stays as it is.
 *
 * That is simple because an entry of a dictionary begins at a multiple of eight: wherever it is moved to, its
 * bytes stay the same. Only lengths of the arrays around it change. Values are never looked into.
 *
 * An object of which no interface is left is left out itself, and one that has none counts as all of them.
 * Whether an entry may be read is asked once for each interface, and for each property only where the answer
 * differs between them.
 *
 * Trust: the body was checked against its signature (wire/body.h); a walk that nevertheless meets something
 * else gives up. Time is linear in bytes × rules. Pure, any thread. */
#include "wire/policy_body.h"
#include "wire/body.h"

#define OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"
#define VARIANT_DEPTH  6 /* a variant in a{oa{sa{sv}}} lies in as many containers */

static const char *const signatures[] = {
    [CBUS_SHAPE_NAMES] = "as",
    [CBUS_SHAPE_PROPERTIES] = "a{sv}",
    [CBUS_SHAPE_OBJECTS] = "a{oa{sa{sv}}}",
    [CBUS_SHAPE_ADDED] = "oa{sa{sv}}",
    [CBUS_SHAPE_REMOVED] = "oas",
    [CBUS_SHAPE_CHANGED] = "sa{sv}as",
};

typedef struct {
    const CbusReader *reader;
    CbusCursor in;
    GByteArray *out;
    CbusSpan path, interface; /* of what is read now */
    CbusAccess access;        /* to that interface */
} Walk;

CbusShape
cbus_signal_shape(const CbusMessage *message)
{
    if (cbus_span_is(message->interface, "org.freedesktop.DBus.Properties") &&
        cbus_span_is(message->member, "PropertiesChanged"))
        return CBUS_SHAPE_CHANGED;
    if (!cbus_span_is(message->interface, OBJECT_MANAGER))
        return CBUS_SHAPE_NONE;
    if (cbus_span_is(message->member, "InterfacesAdded"))
        return CBUS_SHAPE_ADDED;
    return cbus_span_is(message->member, "InterfacesRemoved") ? CBUS_SHAPE_REMOVED : CBUS_SHAPE_NONE;
}

static void
pad(GByteArray *out, guint alignment)
{
    static const guint8 zeros[8];

    g_byte_array_append(out, zeros, -out->len & (alignment - 1));
}

static void
copy(Walk *walk, gsize from, gsize to)
{
    if (to > from)
        g_byte_array_append(walk->out, walk->in.body + from, (guint)(to - from));
}

/* Begins an array of 8-aligned (ALIGNMENT 8) elements or strings in the output; returns where its length is.
 */
static guint
begin_array(Walk *walk, guint alignment)
{
    static const guint8 zero[4];

    pad(walk->out, 4);
    guint at = walk->out->len;
    g_byte_array_append(walk->out, zero, sizeof zero);
    pad(walk->out, alignment);
    return at;
}

static void
end_array(Walk *walk, guint at, guint begin)
{
    guint32 length = walk->out->len - begin;

    length = walk->in.endian == 'l' ? GUINT32_TO_LE(length) : GUINT32_TO_BE(length);
    memcpy(walk->out->data + at, &length, sizeof length);
}

static gboolean
align_in(Walk *walk, gsize alignment)
{
    gsize padding = -walk->in.at & (alignment - 1);

    if (padding > walk->in.len - walk->in.at)
        return FALSE;
    walk->in.at += padding;
    return TRUE;
}

static void
set_interface(Walk *walk, CbusSpan interface)
{
    walk->interface = interface;
    walk->access = cbus_judge_interface(walk->reader->judge, walk->reader->name, walk->path, interface);
}

static gboolean
may_read(const Walk *walk, CbusSpan property)
{
    if (walk->access != CBUS_ACCESS_SOME)
        return walk->access == CBUS_ACCESS_ALL;
    return cbus_judge_property(walk->reader->judge, walk->reader->name, walk->path, walk->interface,
                               property);
}

/* a{sv} of the walk's interface. */
static gboolean
take_properties(Walk *walk)
{
    gsize end;
    guint at = begin_array(walk, 8), begin = walk->out->len;

    if (!cbus_cursor_array(&walk->in, 8, &end))
        return FALSE;
    while (walk->in.at < end) {
        CbusSpan property;
        if (!align_in(walk, 8))
            return FALSE;
        gsize entry = walk->in.at;
        if (!cbus_cursor_string(&walk->in, &property) ||
            !cbus_variant_check(walk->in.body, walk->in.len, walk->in.endian, &walk->in.at, VARIANT_DEPTH,
                                NULL))
            return FALSE;
        if (!may_read(walk, property))
            continue;
        pad(walk->out, 8);
        copy(walk, entry, walk->in.at);
    }
    end_array(walk, at, begin);
    return walk->in.at == end;
}

static gboolean
skip_array(Walk *walk, guint alignment)
{
    gsize end;

    if (!cbus_cursor_array(&walk->in, alignment, &end))
        return FALSE;
    walk->in.at = end;
    return TRUE;
}

/* a{sa{sv}} of the walk's path; LEFT: how many interfaces stay, or whether the object may when it has none.
 */
static gboolean
take_interfaces(Walk *walk, guint *left)
{
    gsize end;
    guint at = begin_array(walk, 8), begin = walk->out->len;

    *left = 0;
    if (!cbus_cursor_array(&walk->in, 8, &end))
        return FALSE;
    if (walk->in.at == end)
        *left = cbus_judge_interface(walk->reader->judge, walk->reader->name, walk->path,
                                     CBUS_SPAN_LITERAL("")) != CBUS_ACCESS_NONE;
    while (walk->in.at < end) {
        CbusSpan interface;
        if (!align_in(walk, 8))
            return FALSE;
        gsize entry = walk->in.at;
        if (!cbus_cursor_string(&walk->in, &interface))
            return FALSE;
        set_interface(walk, interface);
        if (walk->access == CBUS_ACCESS_NONE) {
            if (!skip_array(walk, 8))
                return FALSE;
            continue;
        }
        pad(walk->out, 8);
        copy(walk, entry, walk->in.at);
        if (!take_properties(walk))
            return FALSE;
        ++*left;
    }
    end_array(walk, at, begin);
    return walk->in.at == end;
}

static gboolean
take_objects(Walk *walk)
{
    gsize end;
    guint at = begin_array(walk, 8), begin = walk->out->len;

    if (!cbus_cursor_array(&walk->in, 8, &end))
        return FALSE;
    while (walk->in.at < end) {
        guint before = walk->out->len, left;
        if (!align_in(walk, 8))
            return FALSE;
        gsize entry = walk->in.at;
        if (!cbus_cursor_string(&walk->in, &walk->path))
            return FALSE;
        pad(walk->out, 8);
        copy(walk, entry, walk->in.at);
        if (!take_interfaces(walk, &left))
            return FALSE;
        if (left == 0)
            g_byte_array_set_size(walk->out, before);
    }
    end_array(walk, at, begin);
    return walk->in.at == end;
}

/* as: KEEP says which; LEFT: how many stay. */
static gboolean
take_strings(Walk *walk, gboolean (*keep)(Walk *walk, CbusSpan text), guint *left)
{
    gsize end;
    guint at = begin_array(walk, 4), begin = walk->out->len;

    *left = 0;
    if (!cbus_cursor_array(&walk->in, 4, &end))
        return FALSE;
    while (walk->in.at < end) {
        CbusSpan text;
        if (!align_in(walk, 4))
            return FALSE;
        gsize entry = walk->in.at;
        if (!cbus_cursor_string(&walk->in, &text))
            return FALSE;
        if (!keep(walk, text))
            continue;
        pad(walk->out, 4);
        copy(walk, entry, walk->in.at);
        ++*left;
    }
    end_array(walk, at, begin);
    return walk->in.at == end;
}

static gboolean
keep_name(Walk *walk, CbusSpan name)
{
    return cbus_judge_visible(walk->reader->judge, name);
}

static gboolean
keep_interface(Walk *walk, CbusSpan interface)
{
    set_interface(walk, interface);
    return walk->access != CBUS_ACCESS_NONE;
}

static gboolean
keep_property(Walk *walk, CbusSpan property)
{
    return may_read(walk, property);
}

/* The first argument, a string, as it is. */
static gboolean
take_first(Walk *walk, CbusSpan *text)
{
    if (!cbus_cursor_string(&walk->in, text))
        return FALSE;
    copy(walk, 0, walk->in.at);
    return TRUE;
}

gboolean
cbus_policy_body(const CbusReader *reader, const CbusMessage *message, CbusShape shape, GByteArray *out)
{
    Walk walk = {.reader = reader, .in = cbus_cursor(message), .out = out, .path = reader->path};
    CbusSpan interface;
    guint left;

    if (!cbus_span_is(message->signature, signatures[shape]))
        return FALSE;
    switch (shape) {
        case CBUS_SHAPE_NAMES:
            return take_strings(&walk, keep_name, &left);
        case CBUS_SHAPE_PROPERTIES:
            set_interface(&walk, reader->interface);
            return take_properties(&walk);
        case CBUS_SHAPE_OBJECTS:
            return take_objects(&walk);
        case CBUS_SHAPE_ADDED:
            return take_first(&walk, &walk.path) && take_interfaces(&walk, &left) && left > 0;
        case CBUS_SHAPE_REMOVED:
            return take_first(&walk, &walk.path) && take_strings(&walk, keep_interface, &left) && left > 0;
        case CBUS_SHAPE_CHANGED:
            walk.path = message->path;
            if (!take_first(&walk, &interface))
                return FALSE;
            set_interface(&walk, interface);
            return walk.access != CBUS_ACCESS_NONE && take_properties(&walk) &&
                   take_strings(&walk, keep_property, &left);
        default:
            return FALSE;
    }
}
