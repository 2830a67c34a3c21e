/* Random D-Bus values, and messages that GDBus makes of them: what bodies are checked and translated against.
 * Reproducible with the seed that GTest prints. */
#pragma once
#include "wire/body.h"
#include <gio/gio.h>

static const char *const random_paths[] = {
    "/",
    "/a",
    "/a/b_1/C",
    "/org/freedesktop/systemd1/unit/ssh_2eservice",
    "/ie/bmcgee/CBus",
    "/ie/bmcgee/CBusses/x",
};

static inline guint
random_below(guint bound)
{
    return (guint)g_random_int_range(0, (gint32)bound);
}

static inline char
random_basic_type(void)
{
    return "ybnqiuxtdsog"[random_below(12)];
}

static inline void
random_type(GString *out, guint depth)
{
    guint kind = random_below(depth > 0 ? 10 : 5);
    if (kind < 5) {
        g_string_append_c(out, random_basic_type());
    } else if (kind == 5) {
        g_string_append_c(out, 'v');
    } else if (kind < 8) {
        g_string_append_c(out, 'a');
        random_type(out, depth - 1);
    } else if (kind == 8) {
        g_string_append(out, "a{");
        g_string_append_c(out, random_basic_type());
        random_type(out, depth - 1);
        g_string_append_c(out, '}');
    } else {
        g_string_append_c(out, '(');
        for (guint i = 1 + random_below(3); i > 0; i--)
            random_type(out, depth - 1);
        g_string_append_c(out, ')');
    }
}

static GVariant *random_value(const GVariantType *type, guint depth);

static inline GVariant *
random_text(void)
{
    static const char *const letters[] = {"a", "Z", "0", "/", " ", "ä", "€", "😀", "/org"};
    g_autoptr(GString) text = g_string_new(NULL);
    for (guint i = random_below(20); i > 0; i--)
        g_string_append(text, letters[random_below(G_N_ELEMENTS(letters))]);
    return g_variant_new_string(text->str);
}

static inline GVariant *
random_basic(char type)
{
    guint64 number = (guint64)g_random_int() << 32 | g_random_int();
    switch (type) {
        case 'y':
            return g_variant_new_byte((guchar)number);
        case 'b':
            return g_variant_new_boolean(number & 1);
        case 'n':
            return g_variant_new_int16((gint16)number);
        case 'q':
            return g_variant_new_uint16((guint16)number);
        case 'i':
            return g_variant_new_int32((gint32)number);
        case 'u':
            return g_variant_new_uint32((guint32)number);
        case 'x':
            return g_variant_new_int64((gint64)number);
        case 't':
            return g_variant_new_uint64(number);
        case 'd':
            return g_variant_new_double(g_random_double());
        case 'o':
            return g_variant_new_object_path(random_paths[random_below(G_N_ELEMENTS(random_paths))]);
        case 's':
            return random_text();
        case 'g': {
            g_autoptr(GString) signature = g_string_new(NULL);
            for (guint i = random_below(3); i > 0; i--)
                random_type(signature, 2);
            return g_variant_new_signature(signature->str);
        }
        default:
            g_assert_not_reached();
    }
}

static inline GVariant *
random_container(const GVariantType *type, guint depth)
{
    GVariantBuilder builder;
    g_variant_builder_init(&builder, type);
    if (g_variant_type_is_array(type)) {
        for (guint i = random_below(5); i > 0; i--)
            g_variant_builder_add_value(&builder, random_value(g_variant_type_element(type), depth));
    } else {
        for (const GVariantType *item = g_variant_type_first(type); item != NULL;
             item = g_variant_type_next(item))
            g_variant_builder_add_value(&builder, random_value(item, depth));
    }
    return g_variant_builder_end(&builder);
}

static GVariant *
random_value(const GVariantType *type, guint depth)
{
    char first = *g_variant_type_peek_string(type);
    if (first == 'v') {
        g_autoptr(GString) inner = g_string_new(NULL);
        random_type(inner, depth);
        return g_variant_new_variant(random_value(G_VARIANT_TYPE(inner->str), depth > 0 ? depth - 1 : 0));
    }
    return g_variant_type_is_basic(type) ? random_basic(first) : random_container(type, depth);
}

/* A tuple of one to three values. (transfer full) */
static inline GVariant *
random_body(void)
{
    g_autoptr(GString) type = g_string_new("(");
    for (guint i = 1 + random_below(3); i > 0; i--)
        random_type(type, 4);
    g_string_append_c(type, ')');
    return g_variant_ref_sink(random_value(G_VARIANT_TYPE(type->str), 3));
}

/* A signal that holds BODY, as GDBus writes it. (transfer full) */
static inline guint8 *
message_of(GVariant *body, char endian, gsize *size)
{
    g_autoptr(GDBusMessage) message = g_dbus_message_new_signal("/a", "a.b", "C");
    g_autoptr(GError) error = NULL;
    g_dbus_message_set_byte_order(message, (GDBusMessageByteOrder)endian);
    g_dbus_message_set_serial(message, 1);
    g_dbus_message_set_body(message, body);
    guint8 *data = g_dbus_message_to_blob(message, size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);
    g_assert_no_error(error);
    return data;
}
