/* Bodies without what a policy hides: against the same thing done to GVariants, in either byte order. */
#include "wire/body.h"
#include "wire/policy_body.h"
#include <gio/gio.h>

static const char configuration[] = "[policy p]\n"
                                    "read=a.b=i.All.*;a.b=i.Some.Open;a.b=i.Placed.*@/here/*\n"
                                    "read=a.b=i.Denied.*\n"
                                    "deny=a.b=i.Denied.Secret\n"
                                    "[policy all]\ntalk=a.b\n";

static const char *const *
names_of(CbusSpan name, gpointer user_data)
{
    static const char *const names[] = {"a.b", NULL};

    return cbus_span_is(name, ":1.5") || cbus_span_is(name, "a.b") ? names : NULL;
}

/* The reference. */
static gboolean
may_read(const char *path, const char *interface, const char *property)
{
    if (g_str_equal(interface, "i.All"))
        return TRUE;
    if (g_str_equal(interface, "i.Some"))
        return property == NULL || g_str_equal(property, "Open");
    if (g_str_equal(interface, "i.Placed"))
        return g_str_equal(path, "/here") || g_str_has_prefix(path, "/here/");
    if (g_str_equal(interface, "i.Denied"))
        return property == NULL || !g_str_equal(property, "Secret");
    return FALSE;
}

static GVariant *
reduce_properties(GVariant *properties, const char *path, const char *interface)
{
    GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{sv}"));
    GVariantIter iter;
    const char *name;
    GVariant *value;

    g_variant_iter_init(&iter, properties);
    while (g_variant_iter_loop(&iter, "{&sv}", &name, &value))
        if (may_read(path, interface, name))
            g_variant_builder_add(&builder, "{sv}", name, value);
    return g_variant_builder_end(&builder);
}

static GVariant *
reduce_interfaces(GVariant *interfaces, const char *path)
{
    GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{sa{sv}}"));
    GVariantIter iter;
    const char *name;
    GVariant *properties;

    g_variant_iter_init(&iter, interfaces);
    while (g_variant_iter_loop(&iter, "{&s@a{sv}}", &name, &properties))
        if (may_read(path, name, NULL))
            g_variant_builder_add(&builder, "{s@a{sv}}", name, reduce_properties(properties, path, name));
    return g_variant_builder_end(&builder);
}

static GVariant *
reduce_objects(GVariant *objects)
{
    GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{oa{sa{sv}}}"));
    GVariantIter iter;
    const char *path;
    GVariant *interfaces;

    g_variant_iter_init(&iter, objects);
    while (g_variant_iter_loop(&iter, "{&o@a{sa{sv}}}", &path, &interfaces)) {
        g_autoptr(GVariant) left = g_variant_ref_sink(reduce_interfaces(interfaces, path));
        if (g_variant_n_children(left) > 0)
            g_variant_builder_add(&builder, "{o@a{sa{sv}}}", path, left);
    }
    return g_variant_builder_end(&builder);
}

static GVariant *
random_value(void)
{
    switch (g_test_rand_int_range(0, 5)) {
        case 0:
            return g_variant_new_byte((guint8)g_test_rand_int_range(0, 256));
        case 1:
            return g_variant_new_string("a text of some length" + g_test_rand_int_range(0, 20));
        case 2:
            return g_variant_new_uint64((guint64)g_test_rand_int());
        case 3:
            return g_variant_new("(yas)", 7, NULL);
        default:
            return g_variant_new("a{sv}", NULL);
    }
}

static GVariant *
random_properties(void)
{
    static const char *const names[] = {"Open", "Secret", "X", "LongerName"};
    GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{sv}"));

    for (int n = g_test_rand_int_range(0, 5); n > 0; n--)
        g_variant_builder_add(&builder, "{sv}", names[g_test_rand_int_range(0, 4)], random_value());
    return g_variant_builder_end(&builder);
}

static GVariant *
random_interfaces(void)
{
    static const char *const names[] = {"i.All", "i.Some", "i.Placed", "i.Denied", "i.None", "i.Hidden.Deep"};
    GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{sa{sv}}"));

    for (int n = g_test_rand_int_range(0, 4); n > 0; n--)
        g_variant_builder_add(&builder, "{s@a{sv}}", names[g_test_rand_int_range(0, 6)], random_properties());
    return g_variant_builder_end(&builder);
}

static const char *
random_path(void)
{
    static const char *const paths[] = {"/", "/here", "/here/below", "/heretic", "/else/where"};

    return paths[g_test_rand_int_range(0, 5)];
}

static GVariant *
random_objects(void)
{
    GVariantBuilder builder = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a{oa{sa{sv}}}"));

    for (int n = g_test_rand_int_range(0, 5); n > 0; n--)
        g_variant_builder_add(&builder, "{o@a{sa{sv}}}", random_path(), random_interfaces());
    return g_variant_builder_end(&builder);
}

/* BODY filtered, as a GVariant again; NULL when nothing is left. */
static GVariant *
filter(const char *policy, GVariant *body, CbusShape shape, const char *path, const char *interface,
       int endian, gboolean *whole)
{
    g_autoptr(CbusPolicies) policies =
        cbus_policies_parse(configuration, strlen(configuration), "test", NULL, NULL);
    const CbusJudge judge = {cbus_policies_lookup(policies, policy), names_of, NULL, {NULL, 0}};
    const CbusReader reader = {&judge, CBUS_SPAN_LITERAL(":1.5"), cbus_span(path), cbus_span(interface)};
    g_autoptr(GDBusMessage) message = g_dbus_message_new_signal(path, "x.Y", "Z");
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autofree guint8 *blob = NULL;
    CbusMessage view;
    gsize size;

    g_dbus_message_set_serial(message, 1);
    g_dbus_message_set_byte_order(message, endian == 'l' ? G_DBUS_MESSAGE_BYTE_ORDER_LITTLE_ENDIAN
                                                         : G_DBUS_MESSAGE_BYTE_ORDER_BIG_ENDIAN);
    g_dbus_message_set_body(message, body);
    blob = g_dbus_message_to_blob(message, &size, 0, NULL);
    g_assert_true(cbus_message_view(&view, blob, size, NULL));
    if (!cbus_policy_body(&reader, &view, shape, out))
        return NULL;
    g_assert_true(cbus_body_check(out->data, out->len, view.endian, view.signature, NULL));
    *whole = out->len == view.body_len;
    CbusHeader header = {.endian = view.endian,
                         .type = view.type,
                         .serial = 1,
                         .path = view.path,
                         .interface = view.interface,
                         .member = view.member,
                         .signature = view.signature};
    g_autoptr(GByteArray) again = g_byte_array_new();
    (void)cbus_header_append(again, &header, out->len);
    g_byte_array_append(again, out->data, out->len);
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusMessage) parsed = g_dbus_message_new_from_blob(again->data, again->len, 0, &error);
    g_assert_no_error(error);
    return g_variant_ref(g_dbus_message_get_body(parsed));
}

static void
assert_filtered(GVariant *body, GVariant *expected, CbusShape shape, const char *path, const char *interface)
{
    static const char endians[] = {'l', 'B'};
    g_autoptr(GVariant) before = g_variant_ref_sink(body);
    g_autoptr(GVariant) after = expected != NULL ? g_variant_ref_sink(expected) : NULL;

    for (guint i = 0; i < G_N_ELEMENTS(endians); i++) {
        gboolean whole = FALSE;
        g_autoptr(GVariant) left = filter("p", before, shape, path, interface, endians[i], &whole);
        g_assert_true((left == NULL) == (after == NULL));
        if (left == NULL)
            continue;
        g_autofree char *text = g_variant_print(left, TRUE), *wanted = g_variant_print(after, TRUE);
        g_assert_cmpstr(text, ==, wanted);
        g_assert_true(whole == g_variant_equal(before, after));
        g_autoptr(GVariant) all = filter("all", before, shape, path, interface, endians[i], &whole);
        g_assert_nonnull(all);
        g_assert_true(whole && g_variant_equal(all, before));
    }
}

static void
test_objects(void)
{
    for (guint i = 0; i < 500; i++) {
        g_autoptr(GVariant) objects = g_variant_ref_sink(random_objects());
        assert_filtered(g_variant_new("(@a{oa{sa{sv}}})", objects),
                        g_variant_new("(@a{oa{sa{sv}}})", reduce_objects(objects)), CBUS_SHAPE_OBJECTS, "/",
                        NULL);
    }
}

static void
test_properties(void)
{
    for (guint i = 0; i < 200; i++) {
        const char *path = random_path(), *interface = i % 2 ? "i.Denied" : "i.Some";
        g_autoptr(GVariant) properties = g_variant_ref_sink(random_properties());
        assert_filtered(g_variant_new("(@a{sv})", properties),
                        g_variant_new("(@a{sv})", reduce_properties(properties, path, interface)),
                        CBUS_SHAPE_PROPERTIES, path, interface);
    }
}

static void
test_signals(void)
{
    static const char *const names[] = {"Open", "Secret", NULL}, *const open[] = {"Open", NULL};
    static const char *const interfaces[] = {"i.None", "i.Some", "i.All", "i.Hidden", NULL}, *const left[] = {
                                                                                                 "i.Some",
                                                                                                 "i.All",
                                                                                                 NULL};
    for (guint i = 0; i < 200; i++) {
        const char *path = random_path();
        g_autoptr(GVariant) added = g_variant_ref_sink(random_interfaces());
        g_autoptr(GVariant) reduced = g_variant_ref_sink(reduce_interfaces(added, path));
        gboolean some = g_variant_n_children(reduced) > 0;
        if (some)
            assert_filtered(g_variant_new("(o@a{sa{sv}})", path, added),
                            g_variant_new("(o@a{sa{sv}})", path, reduced), CBUS_SHAPE_ADDED, "/", NULL);
        g_autoptr(GVariant) changed = g_variant_ref_sink(random_properties());
        assert_filtered(
            g_variant_new("(s@a{sv}^as)", "i.Denied", changed, names),
            g_variant_new("(s@a{sv}^as)", "i.Denied", reduce_properties(changed, path, "i.Denied"), open),
            CBUS_SHAPE_CHANGED, path, NULL);
    }
    assert_filtered(g_variant_new("(o^as)", "/x", interfaces), g_variant_new("(o^as)", "/x", left),
                    CBUS_SHAPE_REMOVED, "/", NULL);
}

static void
test_nothing_is_left(void)
{
    static const char *const hidden[] = {"i.None", NULL};
    gboolean whole;
    g_autoptr(GVariant) removed = g_variant_ref_sink(g_variant_new("(o^as)", "/x", hidden));
    g_autoptr(GVariant) changed = g_variant_ref_sink(g_variant_new("(sa{sv}as)", "i.None", NULL, NULL));
    g_autoptr(GVariant) other = g_variant_ref_sink(g_variant_new("(s)", "i.All"));

    g_assert_null(filter("p", removed, CBUS_SHAPE_REMOVED, "/", NULL, 'l', &whole));
    g_assert_null(filter("p", changed, CBUS_SHAPE_CHANGED, "/x", NULL, 'l', &whole));
    for (int shape = CBUS_SHAPE_NAMES; shape <= CBUS_SHAPE_CHANGED; shape++)
        g_assert_null(filter("all", other, (CbusShape)shape, "/x", "i.All", 'l', &whole));
}

static void
test_names(void)
{
    static const char *const names[] = {"a.b", "c.d", ":1.5", ":1.6", "org.freedesktop.DBus", NULL},
                             *const left[] = {"a.b", ":1.5", "org.freedesktop.DBus", NULL};
    g_autoptr(GVariant) body = g_variant_ref_sink(g_variant_new("(^as)", names));
    g_autoptr(GVariant) expected = g_variant_ref_sink(g_variant_new("(^as)", left));
    gboolean whole;
    g_autoptr(GVariant) got = filter("p", body, CBUS_SHAPE_NAMES, "/", NULL, 'B', &whole);

    g_assert_nonnull(got);
    g_assert_true(g_variant_equal(got, expected));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/policy-body/objects", test_objects);
    g_test_add_func("/policy-body/properties", test_properties);
    g_test_add_func("/policy-body/signals", test_signals);
    g_test_add_func("/policy-body/nothing-is-left", test_nothing_is_left);
    g_test_add_func("/policy-body/names", test_names);
    return g_test_run();
}
