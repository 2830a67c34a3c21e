/* The view and the header against GDBus, in both byte orders, and against every rule by hand. Each hostile
 * input lies in a buffer of exactly its size, so that AddressSanitizer sees a read outside. */
#include "wire/message.h"
#include <gio/gio.h>

static const GDBusMessageByteOrder orders[] = {G_DBUS_MESSAGE_BYTE_ORDER_LITTLE_ENDIAN,
                                               G_DBUS_MESSAGE_BYTE_ORDER_BIG_ENDIAN};

static gboolean
view_exact(CbusMessage *view, const guint8 *data, gsize size, GError **error)
{
    g_autofree guint8 *exact = g_memdup2(data, size);
    CbusMessage mine = {0};
    gboolean ok = cbus_message_view(&mine, exact, size, error);
    if (view != NULL)
        *view = mine;
    return ok;
}

static guint8 *
blob(GDBusMessage *message, GDBusMessageByteOrder order, gsize *size)
{
    g_autoptr(GError) error = NULL;
    g_dbus_message_set_byte_order(message, order);
    g_dbus_message_set_serial(message, 77);
    guint8 *data = g_dbus_message_to_blob(message, size, G_DBUS_CAPABILITY_FLAGS_NONE, &error);
    g_assert_no_error(error);
    return data;
}

static GDBusMessage *
make_call(void)
{
    GDBusMessage *call =
        g_dbus_message_new_method_call("org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                       "org.freedesktop.systemd1.Manager", "GetUnit");
    g_dbus_message_set_sender(call, ":1.23");
    g_dbus_message_set_body(call, g_variant_new("(s)", "ssh.service"));
    return call;
}

static GDBusMessage *
make_of_type(GDBusMessageType type)
{
    g_autoptr(GDBusMessage) call = make_call();
    g_dbus_message_set_serial(call, 99);
    switch (type) {
        case G_DBUS_MESSAGE_TYPE_METHOD_RETURN:
            return g_dbus_message_new_method_reply(call);
        case G_DBUS_MESSAGE_TYPE_ERROR:
            return g_dbus_message_new_method_error_literal(call, "org.example.Error", "no");
        case G_DBUS_MESSAGE_TYPE_SIGNAL:
            return g_dbus_message_new_signal("/a/b", "org.example.I", "Changed");
        default:
            return g_steal_pointer(&call);
    }
}

static void
assert_text(CbusSpan span, const char *text)
{
    if (text == NULL) {
        g_assert_null(span.text);
        return;
    }
    g_assert_nonnull(span.text);
    g_assert_cmpmem(span.text, span.len, text, strlen(text));
}

static void
assert_same_fields(const CbusMessage *view, GDBusMessage *message)
{
    g_assert_cmpuint(view->endian, ==, g_dbus_message_get_byte_order(message));
    g_assert_cmpuint(view->type, ==, g_dbus_message_get_message_type(message));
    g_assert_cmpuint(view->flags, ==, g_dbus_message_get_flags(message));
    g_assert_cmpuint(view->serial, ==, g_dbus_message_get_serial(message));
    g_assert_cmpuint(view->reply_serial, ==, g_dbus_message_get_reply_serial(message));
    assert_text(view->path, g_dbus_message_get_path(message));
    assert_text(view->interface, g_dbus_message_get_interface(message));
    assert_text(view->member, g_dbus_message_get_member(message));
    assert_text(view->error_name, g_dbus_message_get_error_name(message));
    assert_text(view->destination, g_dbus_message_get_destination(message));
    assert_text(view->sender, g_dbus_message_get_sender(message));
    const char *signature = g_dbus_message_get_signature(message);
    g_assert_true(cbus_span_is(view->signature, signature != NULL ? signature : ""));
}

static void
test_view_of_gdbus(void)
{
    for (int type = 1; type <= 4; type++) {
        for (gsize i = 0; i < G_N_ELEMENTS(orders); i++) {
            g_autoptr(GDBusMessage) message = make_of_type(type);
            gsize size;
            g_autofree guint8 *data = blob(message, orders[i], &size);
            g_autoptr(GError) error = NULL;
            g_assert_cmpint(cbus_message_frame(data, size, CBUS_MESSAGE_MAX, &error), ==, (gssize)size);
            g_assert_cmpint(cbus_message_frame(data, 15, CBUS_MESSAGE_MAX, &error), ==, 0);
            CbusMessage view;
            g_assert_true(cbus_message_view(&view, data, size, &error));
            g_assert_no_error(error);
            assert_same_fields(&view, message);
            g_assert_true(view.body + view.body_len == data + size);
            g_assert_cmpuint((gsize)(view.body - data) % 8, ==, 0);
        }
    }
}

static CbusHeader
header_of(const CbusMessage *view)
{
    return (CbusHeader){
        .endian = view->endian,
        .type = view->type,
        .flags = view->flags,
        .serial = view->serial,
        .reply_serial = view->reply_serial,
        .path = view->path,
        .interface = view->interface,
        .member = view->member,
        .error_name = view->error_name,
        .destination = view->destination,
        .sender = view->sender,
        .signature = view->signature,
    };
}

/* A rebuilt message means the same to GDBus, wherever in a buffer it begins. */
static void
test_rebuild(void)
{
    for (int type = 1; type <= 4; type++) {
        for (gsize i = 0; i < G_N_ELEMENTS(orders) * 8; i++) {
            g_autoptr(GDBusMessage) message = make_of_type(type);
            gsize size;
            g_autofree guint8 *data = blob(message, orders[i / 8], &size);
            g_autoptr(GError) error = NULL;
            CbusMessage view;
            g_assert_true(cbus_message_view(&view, data, size, &error));
            CbusHeader header = header_of(&view);
            g_autoptr(GByteArray) out = g_byte_array_new();
            g_byte_array_append(out, (const guint8 *)"01234567", i % 8);
            gsize offset = cbus_header_append(out, &header, view.body_len);
            g_assert_cmpuint(offset, ==, i % 8);
            g_byte_array_append(out, view.body, view.body_len);
            g_autoptr(GDBusMessage) back = g_dbus_message_new_from_blob(out->data + offset, out->len - offset,
                                                                        G_DBUS_CAPABILITY_FLAGS_NONE, &error);
            g_assert_no_error(error);
            assert_same_fields(&view, back);
            GVariant *body = g_dbus_message_get_body(message);
            if (body != NULL)
                g_assert_true(g_variant_equal(body, g_dbus_message_get_body(back)));
        }
    }
}

static void
test_prefix_and_close(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(orders); i++) {
        CbusHeader header = {.endian = (guint8)orders[i], .type = 1, .serial = 5};
        header.path_prefix = CBUS_SPAN_LITERAL("/pre/fix");
        header.path = CBUS_SPAN_LITERAL("/x");
        header.member = CBUS_SPAN_LITERAL("M");
        header.signature = CBUS_SPAN_LITERAL("ay");
        g_autoptr(GByteArray) out = g_byte_array_new();
        gsize offset = cbus_header_append(out, &header, 0), body = out->len;
        g_byte_array_append(out, (const guint8 *)"\0\0\0\0", 4);
        g_assert_true(cbus_header_close(out, offset, body));
        CbusMessage view;
        g_assert_true(cbus_message_view(&view, out->data, out->len, NULL));
        g_assert_true(cbus_span_is(view.path, "/pre/fix/x"));
        g_assert_cmpuint(view.body_len, ==, 4);

        header.path = CBUS_SPAN_LITERAL("/");
        header.signature = (CbusSpan){NULL, 0};
        g_byte_array_set_size(out, 0);
        cbus_header_append(out, &header, 0);
        g_assert_true(cbus_message_view(&view, out->data, out->len, NULL));
        g_assert_true(cbus_span_is(view.path, "/pre/fix"));
    }
}

static void
test_close_refuses_what_outgrew(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_byte_array_append(out, (const guint8 *)"before", 6);
    CbusHeader header = {.endian = 'l', .type = 1, .serial = 5};
    header.path = CBUS_SPAN_LITERAL("/");
    header.member = CBUS_SPAN_LITERAL("M");
    header.signature = CBUS_SPAN_LITERAL("ay");
    gsize offset = cbus_header_append(out, &header, 0), body = out->len;
    g_byte_array_set_size(out, (guint)offset + CBUS_MESSAGE_MAX);
    g_assert_true(cbus_header_close(out, offset, body));
    g_byte_array_set_size(out, (guint)offset + CBUS_MESSAGE_MAX + 1);
    g_assert_false(cbus_header_close(out, offset, body));
    g_assert_cmpuint(out->len, ==, 6);

    g_autofree char *longest = g_strnfill(CBUS_ARRAY_MAX, 'x');
    longest[0] = '/';
    header.path = (CbusSpan){longest, CBUS_ARRAY_MAX - 100};
    offset = cbus_header_append(out, &header, 0);
    g_assert_true(cbus_header_close(out, offset, out->len));
    g_byte_array_set_size(out, 6);
    header.path_prefix =
        CBUS_SPAN_LITERAL("/a/prefix/of/a/hundred/bytes/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                          "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
    offset = cbus_header_append(out, &header, 0);
    g_assert_false(cbus_header_close(out, offset, out->len));
    g_assert_cmpuint(out->len, ==, 6);
}

static void
test_small_messages(void)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    CbusHeader header = {.type = 1, .serial = 9};
    header.path = CBUS_SPAN_LITERAL("/a");
    header.member = CBUS_SPAN_LITERAL("M");
    cbus_message_append(out, &header, "suo", "text", (guint32)7, "/o");
    g_autoptr(GDBusMessage) message = g_dbus_message_new_from_blob(out->data, out->len, 0, &error);
    g_assert_no_error(error);
    g_autofree char *body = g_variant_print(g_dbus_message_get_body(message), FALSE);
    g_assert_cmpstr(body, ==, "('text', 7, '/o')");

    g_autoptr(GDBusMessage) call = make_call();
    gsize size;
    g_autofree guint8 *data = blob(call, G_DBUS_MESSAGE_BYTE_ORDER_BIG_ENDIAN, &size);
    CbusMessage view;
    g_assert_true(cbus_message_view(&view, data, size, &error));
    g_byte_array_set_size(out, 0);
    cbus_message_append_error(out, 10, &view, "org.example.Error", "why");
    g_autoptr(GDBusMessage) reply = g_dbus_message_new_from_blob(out->data, out->len, 0, &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_dbus_message_get_message_type(reply), ==, G_DBUS_MESSAGE_TYPE_ERROR);
    g_assert_cmpuint(g_dbus_message_get_reply_serial(reply), ==, 77);
    g_assert_cmpstr(g_dbus_message_get_destination(reply), ==, ":1.23");
    g_assert_cmpstr(g_dbus_message_get_error_name(reply), ==, "org.example.Error");
    g_assert_cmpstr(g_dbus_message_get_arg0(reply), ==, "why");
}

/* A little-endian message written by hand: TYPE, then FIELDS bytes of LEN. */
static GByteArray *
by_hand(guint8 type, const char *fields, guint len)
{
    GByteArray *out = g_byte_array_new();
    const guint8 head[16] = {'l', type, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, (guint8)len, (guint8)(len >> 8)};
    g_byte_array_append(out, head, sizeof head);
    g_byte_array_append(out, (const guint8 *)fields, len);
    while (out->len % 8 != 0)
        g_byte_array_append(out, (const guint8 *)"", 1);
    return out;
}

#define SERIAL_5 "\5\1u\0\7\0\0\0"
#define RULE(fields)                                                                                         \
    {                                                                                                        \
        fields, sizeof(fields) - 1                                                                           \
    }

static void
test_fields_by_hand(void)
{
    static const struct {
        const char *fields;
        guint len;
    } good[] =
        {
            RULE(SERIAL_5),
            /* Unknown fields, of any well-formed value. */
            RULE(SERIAL_5 "\12\1s\0\1\0\0\0x\0"),
            RULE(SERIAL_5 "\377\2ay\0\0\0\0\0\0\0\0"),
            RULE(SERIAL_5 "\200\1v\0\1y\0\1"),
            RULE(SERIAL_5 "\x11\x01y\0\1\0\0\0\x11\x01y\0\1"),
            RULE(SERIAL_5 "\11\1u\0\0\0\0\0"),
            RULE(SERIAL_5 "\10\1g\0\0\0"),
        },
      bad[] = {
          RULE(""),
          RULE("\5\1u\0\0\0\0\0"),                                /* reply serial 0 */
          RULE(SERIAL_5 SERIAL_5),                                /* twice */
          RULE("\5\1i\0\7\0\0\0"),                                /* of another type */
          RULE("\5\2uu\0\0\0\0\7\0\0\0"),                         /* more than one type */
          RULE("\5\0\0\0\7\0\0\0"),                               /* no type */
          RULE(SERIAL_5 "\0\1u\0\7\0\0\0"),                       /* code 0 */
          RULE(SERIAL_5 "\1\1o\0\1\0\0\0x\0"),                    /* no path */
          RULE(SERIAL_5 "\1\1s\0\1\0\0\0/\0"),                    /* a path of type s */
          RULE(SERIAL_5 "\7\1s\0\2\0\0\0:1\0"),                   /* a sender without a dot */
          RULE(SERIAL_5 "\7\1s\0\4\0\0\0:1.2x"),                  /* no NUL */
          RULE(SERIAL_5 "\7\1s\0\200\0\0\0:1.2\0"),               /* cut off */
          RULE(SERIAL_5 "\7\1s\0\377\377\377\377:1.2\0"),         /* likewise, near 4 GiB */
          RULE(SERIAL_5 "\10\1g\0\1(\0"),                         /* a signature that is none */
          RULE(SERIAL_5 "\10\1g\0\5y\0"),                         /* cut off */
          RULE(SERIAL_5 "\10\1g\0\1y\1"),                         /* no NUL */
          RULE(SERIAL_5 "\12\1b\0\2\0\0\0"),                      /* unknown field, boolean 2 */
          RULE(SERIAL_5 "\12\2uu\0\0\0\0\7\0\0\0\7\0\0\0"),       /* two values */
          RULE(SERIAL_5 "\12\0\0"),                               /* no value */
          RULE(SERIAL_5 "\12\1s\0\11\0\0\0x\0"),                  /* cut off */
          RULE(SERIAL_5 "\7\1s\0\4\0\0\0:1.2\0\1\0\0\12\1y\0\7"), /* padding that is not zero */
          RULE(SERIAL_5 "\7\1s\0\4\0\0\0:1.2\0\0\0\0"),           /* padding that belongs to no field */
          RULE(SERIAL_5 "\7\1"),
          RULE(SERIAL_5 "\7"),
      };
    g_autoptr(GError) none = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GByteArray) message = by_hand(2, good[i].fields, good[i].len);
        view_exact(NULL, message->data, message->len, &none);
        if (none != NULL)
            g_test_message("good header %zu", i);
        g_assert_no_error(none);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GByteArray) message = by_hand(2, bad[i].fields, bad[i].len);
        g_autoptr(GError) error = NULL;
        if (view_exact(NULL, message->data, message->len, &error))
            g_error("bad header %zu was accepted", i);
        g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID);
    }
}

static void
test_fixed_part(void)
{
    static const struct {
        guint at;
        guint8 value;
    } wrong[] = {{0, 'x'}, {1, 0}, {1, 5}, {3, 0}, {3, 2}, {8, 0}, {7, 0xff}, {15, 0xff}, {15, 0x05}};
    g_autoptr(GByteArray) message = by_hand(2, SERIAL_5, 8);
    g_autoptr(GError) none = NULL;
    g_assert_true(view_exact(NULL, message->data, message->len, &none));
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        guint8 before = message->data[wrong[i].at];
        g_autoptr(GError) error = NULL;
        message->data[wrong[i].at] = wrong[i].value;
        g_assert_false(view_exact(NULL, message->data, message->len, &error));
        g_assert_error(error, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_INVALID);
        message->data[wrong[i].at] = before;
    }
    /* Unknown flags are nobody's fault. */
    message->data[2] = 0xf8;
    g_assert_true(view_exact(NULL, message->data, message->len, &none));
    g_assert_cmpint(cbus_message_frame(message->data, message->len, 23, &none), ==, -1);
    g_assert_error(none, CBUS_MESSAGE_FAULT, CBUS_MESSAGE_FAULT_LIMIT);
}

static void
test_required_and_reserved(void)
{
    static const char *const wanted[] = {"", "/im", "r", "re", "/im"};
    for (guint8 type = 1; type <= 4; type++) {
        for (guint without = 0; without < 7; without++) {
            CbusHeader header = {.endian = 'B', .type = type, .serial = 3};
            header.path = without == 1 ? (CbusSpan){NULL, 0} : cbus_span("/a");
            header.interface = without == 2 ? (CbusSpan){NULL, 0} : cbus_span("a.b");
            header.member = without == 3 ? (CbusSpan){NULL, 0} : cbus_span("M");
            header.error_name = without == 4 ? (CbusSpan){NULL, 0} : cbus_span("a.b");
            header.reply_serial = without == 5 ? 0 : 1;
            if (without == 6)
                header.path = cbus_span("/org/freedesktop/DBus/Local");
            g_autoptr(GByteArray) out = g_byte_array_new();
            cbus_header_append(out, &header, 0);
            gboolean needed =
                without == 6 || (without > 0 && strchr(wanted[type], "?/imer"[without]) != NULL);
            /* A call may leave its interface out. */
            needed = needed && !(type == 1 && without == 2);
            g_assert_cmpint(view_exact(NULL, out->data, out->len, NULL), ==, !needed);
            header.path = cbus_span("/a");
            header.interface = cbus_span("org.freedesktop.DBus.Local");
            g_byte_array_set_size(out, 0);
            cbus_header_append(out, &header, 0);
            g_assert_false(view_exact(NULL, out->data, out->len, NULL));
        }
    }
}

/* Fields nested as deep as allowed, and one deeper: array, struct and the field's variant count. */
static void
test_nested_field(void)
{
    for (guint variants = 60; variants <= 64; variants++) {
        g_autoptr(GByteArray) fields = g_byte_array_new();
        g_byte_array_append(fields, (const guint8 *)SERIAL_5 "\12", 9);
        for (guint i = 0; i + 1 < variants; i++)
            g_byte_array_append(fields, (const guint8 *)"\1v", 3);
        g_byte_array_append(fields, (const guint8 *)"\1y\0\1", 4);
        g_autoptr(GByteArray) message = by_hand(2, (const char *)fields->data, fields->len);
        g_assert_cmpint(view_exact(NULL, message->data, message->len, NULL), ==, variants <= 62);
    }
}

/* Whatever a view accepts GDBus accepts too, and means the same by it; OUT is untouched otherwise. */
static void
check_hostile(const guint8 *data, gsize size, guint *accepted)
{
    CbusMessage view, before;
    memset(&before, 0x55, sizeof before);
    view = before;
    g_autofree guint8 *exact = g_memdup2(data, size);
    g_autoptr(GError) error = NULL;
    if (!cbus_message_view(&view, exact, size, &error)) {
        g_assert_nonnull(error);
        g_assert_cmpmem(&view, sizeof view, &before, sizeof before);
        return;
    }
    g_autoptr(GDBusMessage) message = g_dbus_message_new_from_blob(exact, size, 0, NULL);
    if (message == NULL) /* the body, which the view does not look at */
        return;
    ++*accepted;
    g_assert_cmpuint(view.serial, ==, g_dbus_message_get_serial(message));
    assert_text(view.path, g_dbus_message_get_path(message));
    assert_text(view.member, g_dbus_message_get_member(message));
    assert_text(view.destination, g_dbus_message_get_destination(message));
}

static void
test_truncations_and_flips(void)
{
    guint accepted = 0;
    for (int type = 1; type <= 4; type++) {
        for (gsize i = 0; i < G_N_ELEMENTS(orders); i++) {
            g_autoptr(GDBusMessage) message = make_of_type(type);
            gsize size;
            g_autofree guint8 *data = blob(message, orders[i], &size);
            for (gsize cut = 0; cut < size; cut++) {
                g_assert_false(view_exact(NULL, data, cut, NULL));
                guint8 was = data[cut];
                for (guint value = 0; value < 256; value++) {
                    data[cut] = (guint8)value;
                    check_hostile(data, size, &accepted);
                }
                data[cut] = was;
            }
        }
    }
    g_assert_cmpuint(accepted, >, 1000);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/message/view-of-gdbus", test_view_of_gdbus);
    g_test_add_func("/message/rebuilt-is-the-same", test_rebuild);
    g_test_add_func("/message/prefix-and-close", test_prefix_and_close);
    g_test_add_func("/message/close-refuses-what-outgrew", test_close_refuses_what_outgrew);
    g_test_add_func("/message/small-messages", test_small_messages);
    g_test_add_func("/message/fields-by-hand", test_fields_by_hand);
    g_test_add_func("/message/fixed-part", test_fixed_part);
    g_test_add_func("/message/required-and-reserved", test_required_and_reserved);
    g_test_add_func("/message/nested-field", test_nested_field);
    g_test_add_func("/message/truncations-and-flips", test_truncations_and_flips);
    return g_test_run();
}
