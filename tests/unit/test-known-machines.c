/* known_machines: what pins, what is refused and on which line. */
#include "wire/known_machines.h"

#include <string.h>

typedef struct {
    GString *told;
    guint count;
    int last_code;
} Faults;

static void
on_fault(guint line, const GError *error, gpointer user_data)
{
    Faults *faults = user_data;
    g_assert_true(error->domain == CBUS_KNOWN_ERROR);
    g_autofree char *prefix = g_strdup_printf("line %u: ", line);
    g_assert_true(g_str_has_prefix(error->message, prefix));
    g_string_append_printf(faults->told, "%u ", line);
    faults->count++;
    faults->last_code = error->code;
}

/* The ed25519 base point and its double: valid points without a crypto library in the test. */
static const guint8 point_a[CBUS_KEY_BYTES] = {
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66};
static const guint8 point_b[CBUS_KEY_BYTES] = {
    0xc9, 0xa3, 0xf8, 0x6a, 0xae, 0x46, 0x5f, 0x0e, 0x56, 0x51, 0x38, 0x64, 0x51, 0x0f, 0x39, 0x97,
    0x56, 0x1f, 0xa2, 0xc9, 0xe8, 0x5e, 0xa2, 0x1d, 0xc2, 0x29, 0x23, 0x09, 0xf3, 0xcd, 0x60, 0x22};

static void
nkey_of(const guint8 *point, CbusKey *key, char out[CBUS_NKEY_LENGTH + 1])
{
    memcpy(key->bytes, point, CBUS_KEY_BYTES);
    cbus_nkey_encode(key, out);
}

static CbusKnownMachines *
parse(const char *text, Faults *faults)
{
    faults->told = g_string_new(NULL);
    return cbus_known_machines_parse(text, strlen(text), on_fault, faults);
}

static void
test_lines_pin_names(void)
{
    CbusKey a, b;
    char nkey_a[CBUS_NKEY_LENGTH + 1], nkey_b[CBUS_NKEY_LENGTH + 1];
    nkey_of(point_a, &a, nkey_a);
    nkey_of(point_b, &b, nkey_b);
    g_autofree char *text = g_strdup_printf(
        "# the fleet\n\n%s web1\r\n  \t%s\tdb-1.example_x  # the old one\n#%s web3", nkey_a, nkey_b, nkey_b);
    Faults faults = {0};
    g_autoptr(CbusKnownMachines) known = parse(text, &faults);
    g_assert_cmpstr(faults.told->str, ==, "");
    g_assert_cmpuint(cbus_known_machines_size(known), ==, 2);
    g_assert_cmpstr(cbus_known_machines_get(known, 0)->name, ==, "web1");
    g_assert_cmpuint(cbus_known_machines_get(known, 0)->line, ==, 3);
    g_assert_cmpstr(cbus_known_machines_by_key(known, &b)->name, ==, "db-1.example_x");
    g_assert_true(cbus_key_equal(&cbus_known_machines_by_name(known, "web1")->key, &a));
    g_assert_null(cbus_known_machines_by_name(known, "WEB1"));
    g_string_free(faults.told, TRUE);
}

static void
test_tags_stand_behind_the_name(void)
{
    CbusKey a, b;
    char nkey_a[CBUS_NKEY_LENGTH + 1], nkey_b[CBUS_NKEY_LENGTH + 1];
    nkey_of(point_a, &a, nkey_a);
    nkey_of(point_b, &b, nkey_b);
    g_autofree char *text = g_strdup_printf("%s web1\tweb,rack-3 # old\n%s db #,x\n", nkey_a, nkey_b);
    Faults faults = {0};
    g_autoptr(CbusKnownMachines) known = parse(text, &faults);
    const char *const expected[] = {"web", "rack-3", NULL};
    g_assert_cmpstr(faults.told->str, ==, "");
    g_assert_cmpstrv(cbus_known_machines_by_key(known, &a)->tags, expected);
    g_assert_null(cbus_known_machines_by_key(known, &b)->tags);
    g_string_free(faults.told, TRUE);
}

static void
test_bad_tags_refuse_their_line(void)
{
    static const char *const tags[] = {"web,", ",web", "we b", "web/x",
                                       "-web", "a,,b", "@web", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"};
    CbusKey a;
    char nkey[CBUS_NKEY_LENGTH + 1];
    nkey_of(point_a, &a, nkey);
    for (guint i = 0; i < G_N_ELEMENTS(tags); i++) {
        g_autofree char *text = g_strdup_printf("%s web1 %s\n", nkey, tags[i]);
        Faults faults = {0};
        g_autoptr(CbusKnownMachines) known = parse(text, &faults);
        g_assert_cmpstr(faults.told->str, ==, "1 ");
        g_assert_cmpuint(cbus_known_machines_size(known), ==, 0);
        g_string_free(faults.told, TRUE);
    }
}

static void
test_bad_lines_are_refused_alone(void)
{
    CbusKey a, b;
    char nkey_a[CBUS_NKEY_LENGTH + 1], nkey_b[CBUS_NKEY_LENGTH + 1];
    nkey_of(point_a, &a, nkey_a);
    nkey_of(point_b, &b, nkey_b);
    g_autofree char *text =
        g_strdup_printf("%s\n"            /* 1: no name */
                        "%s web1 x y\n"   /* 2: a word too many */
                        "UABCDEF web1\n"  /* 3: no NKey */
                        "%s -web\n"       /* 4: no name */
                        "%s web1\n"       /* stands */
                        "%s web9\n"       /* 6: the key again */
                        "%s web1\n"       /* 7: the name again */
                        "%s UBUNTU\n"     /* 8: like an NKey */
                        "%s #web2\n"      /* 9: a comment is no name */
                        "%s web\xc3\xa9", /* 10: not ASCII */
                        nkey_a, nkey_a, nkey_a, nkey_a, nkey_a, nkey_b, nkey_b, nkey_b, nkey_b);
    Faults faults = {0};
    g_autoptr(CbusKnownMachines) known = parse(text, &faults);
    g_assert_cmpstr(faults.told->str, ==, "1 2 3 4 6 7 8 9 10 ");
    g_assert_cmpuint(cbus_known_machines_size(known), ==, 1);
    g_assert_cmpstr(cbus_known_machines_by_key(known, &a)->name, ==, "web1");
    g_assert_null(cbus_known_machines_by_key(known, &b));
    g_string_free(faults.told, TRUE);
}

static void
test_an_oversized_file_pins_nothing(void)
{
    g_autofree char *text = g_malloc(CBUS_KNOWN_MACHINES_LENGTH + 1);
    memset(text, '\n', CBUS_KNOWN_MACHINES_LENGTH + 1);
    Faults faults = {.told = g_string_new(NULL)};
    g_autoptr(CbusKnownMachines) known =
        cbus_known_machines_parse(text, CBUS_KNOWN_MACHINES_LENGTH + 1, on_fault, &faults);
    g_assert_cmpuint(faults.count, ==, 1);
    g_assert_cmpint(faults.last_code, ==, CBUS_KNOWN_ERROR_LIMIT);
    g_assert_cmpuint(cbus_known_machines_size(known), ==, 0);
    g_string_free(faults.told, TRUE);
}

static void
test_names(void)
{
    static const char *const good[] = {"a",     "7",   "web1",   "a.b-c_d", "Ubuntu",
                                       "UNIT1", "USA", "UABC.D", "x86"};
    static const char *const bad[] = {"", ".a", "a.", "-", "a b", "a/b", "a\n", "UABCD", "UBUNTU", "U234567"};
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(cbus_machine_name_check(good[i], strlen(good[i]), &error));
        g_assert_no_error(error);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(cbus_machine_name_check(bad[i], strlen(bad[i]), &error));
        g_assert_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_NAME);
    }
    g_autofree char *longest = g_strnfill(CBUS_MACHINE_NAME_MAX, 'a');
    g_autofree char *longer = g_strnfill(CBUS_MACHINE_NAME_MAX + 1, 'a');
    g_assert_true(cbus_machine_name_check(longest, strlen(longest), NULL));
    g_assert_false(cbus_machine_name_check(longer, strlen(longer), NULL));
}

static void
test_resembling_names_are_found(void)
{
    CbusKey a;
    char nkey[CBUS_NKEY_LENGTH + 1];
    nkey_of(point_a, &a, nkey);
    g_autofree char *text = g_strdup_printf("%s web-1\n", nkey);
    Faults faults = {0};
    g_autoptr(CbusKnownMachines) known = parse(text, &faults);
    g_assert_nonnull(cbus_known_machines_resembling(known, "web-1"));
    g_assert_nonnull(cbus_known_machines_resembling(known, "WEB_1"));
    g_assert_nonnull(cbus_known_machines_resembling(known, "web1"));
    g_assert_null(cbus_known_machines_resembling(known, "web2"));
    /* In many a font these are one name. */
    g_assert_nonnull(cbus_known_machines_resembling(known, "webl"));
    g_assert_nonnull(cbus_known_machines_resembling(known, "WEBI"));
    g_assert_nonnull(cbus_known_machines_resembling(known, "vveb.1"));
    g_assert_null(cbus_known_machines_resembling(known, "veb1"));
    g_string_free(faults.told, TRUE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/known-machines/lines-pin-names", test_lines_pin_names);
    g_test_add_func("/known-machines/bad-lines-are-refused-alone", test_bad_lines_are_refused_alone);
    g_test_add_func("/known-machines/tags", test_tags_stand_behind_the_name);
    g_test_add_func("/known-machines/bad-tags", test_bad_tags_refuse_their_line);
    g_test_add_func("/known-machines/an-oversized-file-pins-nothing", test_an_oversized_file_pins_nothing);
    g_test_add_func("/known-machines/names", test_names);
    g_test_add_func("/known-machines/resembling-names-are-found", test_resembling_names_are_found);
    return g_test_run();
}
