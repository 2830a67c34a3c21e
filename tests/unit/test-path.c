/* Escaping against GLib's, what must not decode, and where paths lead. */
#include "introspect/path.h"
#include "wire/message.h"
#include <gio/gio.h>

static CbusKey
make_key(void)
{
    CbusKey key;
    for (guint i = 0; i < sizeof key.bytes; i++)
        key.bytes[i] = (guint8)(i * 7 + 1);
    return key;
}

static char *
nkey_text(void)
{
    CbusKey key = make_key();
    char *text = g_malloc(CBUS_NKEY_LENGTH + 1);
    cbus_nkey_encode(&key, text);
    return text;
}

static CbusPlaceKind
kind_of(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *path = g_strdup_vprintf(format, args);
    va_end(args);
    CbusPlace place;
    cbus_place_parse(cbus_span(path), &place);
    return place.kind;
}

static void
test_escape_round_trip(void)
{
    static const char alphabet[] = "aZ09_-.:bcdefxyz";
    guint names = 0;
    for (guint i = 0; i < 300000; i++) {
        char name[14];
        guint len = (guint)g_random_int_range(3, sizeof name);
        for (guint j = 0; j < len; j++)
            name[j] = alphabet[g_random_int_range(0, sizeof alphabet - 1)];
        name[len] = '\0';
        g_autofree char *expected = g_dbus_escape_object_path(name);
        g_autoptr(GString) escaped = g_string_new(NULL);
        cbus_service_escape(escaped, name);
        g_assert_cmpstr(escaped->str, ==, expected);
        char back[256];
        gboolean ok = cbus_service_unescape((CbusSpan){escaped->str, escaped->len}, back);
        g_assert_cmpint(ok, ==, cbus_is_bus_name(cbus_span(name)));
        if (ok)
            g_assert_cmpstr(back, ==, name);
        names += ok;
    }
    g_assert_cmpuint(names, >, 1000);
}

static void
test_only_what_encoding_gives(void)
{
    static const char *const good[] = {"org_2eexample", "_3a1_2e5", "a_5fb_2ec", "a_2db_2ec"};
    static const char *const bad[] = {
        "",           "_",         "_zz",       "_4",        "a_2ezz_4", "a_2Eb",  "a_2e_61b", "a_b",
        "a_2eb_",     "a_2eb_2",   "a_00b_2ec", "a.b",       "plain",    "_2ea",   "a_2e",     "a_2e1b",
        "a_2e\xc3_2", "a_2eb_c3c", "a_2eb_5F",  "a_2e_30bc", "_3a",      "_3a_2e",
    };
    char out[256];
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(cbus_service_unescape(cbus_span(good[i]), out));
        g_autoptr(GString) again = g_string_new(NULL);
        cbus_service_escape(again, out);
        g_assert_cmpstr(again->str, ==, good[i]);
    }
    g_strlcpy(out, "untouched", sizeof out);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        if (cbus_service_unescape(cbus_span(bad[i]), out))
            g_error("%s was decoded", bad[i]);
    g_assert_cmpstr(out, ==, "untouched");
}

static void
test_longest_name(void)
{
    g_autoptr(GString) name = g_string_new("a.");
    while (name->len < 255)
        g_string_append_c(name, '_');
    for (guint over = 0; over < 2; over++) {
        g_autoptr(GString) escaped = g_string_new(NULL);
        cbus_service_escape(escaped, name->str);
        char out[256];
        g_assert_cmpint(cbus_service_unescape((CbusSpan){escaped->str, escaped->len}, out), ==, !over);
        g_string_append_c(name, '_');
    }
}

static void
test_places(void)
{
    g_autofree char *nkey = nkey_text();
    g_assert_cmpint(kind_of("/"), ==, CBUS_PLACE_OUTSIDE);
    g_assert_cmpint(kind_of("/ie/bmcgee"), ==, CBUS_PLACE_OUTSIDE);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBusses"), ==, CBUS_PLACE_OUTSIDE);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBus"), ==, CBUS_PLACE_ROOT);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBus/%s", nkey), ==, CBUS_PLACE_MACHINE);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBus/%s/a_2eb", nkey), ==, CBUS_PLACE_SERVICE);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBus/%s/_zz", nkey), ==, CBUS_PLACE_UNKNOWN);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBus/%s/_zz/a", nkey), ==, CBUS_PLACE_UNKNOWN);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBus/%sA", nkey), ==, CBUS_PLACE_UNKNOWN);
    g_assert_cmpint(kind_of("/ie/bmcgee/CBus/x"), ==, CBUS_PLACE_UNKNOWN);
}

static void
test_place_holds_what_it_names(void)
{
    g_autofree char *nkey = nkey_text();
    g_autoptr(GString) path = g_string_new(NULL);
    CbusPlace place;
    CbusKey key = make_key();
    cbus_place_append_machine(path, nkey);
    g_assert_cmpuint(path->len, ==, CBUS_MACHINE_PATH_LEN);
    cbus_place_parse((CbusSpan){path->str, path->len}, &place);
    g_assert_cmpint(place.kind, ==, CBUS_PLACE_MACHINE);
    g_assert_true(cbus_key_equal(&place.machine, &key));
    g_assert_true(cbus_span_is(place.nkey, nkey));

    g_string_truncate(path, 0);
    cbus_place_append_service(path, nkey, "org.example.One");
    cbus_place_parse((CbusSpan){path->str, path->len}, &place);
    g_assert_cmpint(place.kind, ==, CBUS_PLACE_SERVICE);
    g_assert_cmpstr(place.service, ==, "org.example.One");
    g_assert_true(cbus_span_is(place.service_element, "org_2eexample_2eOne"));
    g_assert_true(cbus_span_is(place.path, "/"));
    g_string_append(path, "/a/b");
    cbus_place_parse((CbusSpan){path->str, path->len}, &place);
    g_assert_true(cbus_span_is(place.path, "/a/b"));
    g_assert_true(cbus_key_equal(&place.machine, &key));
}

/* One machine, one spelling: each other character at each place of the NKey is unknown. */
static void
test_nkey_is_checked(void)
{
    g_autofree char *nkey = nkey_text();
    for (guint at = 0; at < CBUS_NKEY_LENGTH; at++) {
        char was = nkey[at];
        for (const char *c = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567abu018_"; *c != '\0'; c++) {
            nkey[at] = *c;
            g_assert_cmpint(kind_of("/ie/bmcgee/CBus/%s", nkey), ==,
                            *c == was ? CBUS_PLACE_MACHINE : CBUS_PLACE_UNKNOWN);
        }
        nkey[at] = was;
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/path/escape-round-trip", test_escape_round_trip);
    g_test_add_func("/path/only-what-encoding-gives", test_only_what_encoding_gives);
    g_test_add_func("/path/longest-name", test_longest_name);
    g_test_add_func("/path/places", test_places);
    g_test_add_func("/path/place-holds-what-it-names", test_place_holds_what_it_names);
    g_test_add_func("/path/nkey-is-checked", test_nkey_is_checked);
    return g_test_run();
}
