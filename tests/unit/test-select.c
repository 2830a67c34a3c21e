/* Which machines --nkeys means, and which interface a member belongs to. */
#include "cli/bus.h"
#include "cli/member.h"
#include "cli/select.h"

#define WEB1  "UAWEB1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define WEB2  "UAWEB2AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define STRAY "UASTRAYAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

static GPtrArray *
roster_new(gboolean pinned)
{
    static const struct {
        const char *nkey, *name;
        gboolean pinned;
    } machines[] = {{WEB1, "web1", TRUE}, {WEB2, "web2", TRUE}, {STRAY, "web9", FALSE}};
    GVariantBuilder builder;
    g_autoptr(GVariant) objects = NULL;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a{oa{sa{sv}}}"));
    for (guint i = 0; i < G_N_ELEMENTS(machines); i++) {
        g_autofree char *path = g_strconcat(CBUS_PROXY_PATH "/", machines[i].nkey, NULL);
        g_autoptr(GVariant) properties = g_variant_ref_sink(g_variant_new_parsed(
            "{'NKey': <%s>, 'Name': <%s>, 'NamePinned': <%b>, 'Tags': <['all', %s]>}", machines[i].nkey,
            machines[i].name, machines[i].pinned && pinned, machines[i].name));

        g_variant_builder_add(&builder, "{o@a{sa{sv}}}", path,
                              g_variant_new_parsed("{%s: %@a{sv}}", CBUS_MACHINE_INTERFACE, properties));
    }
    objects = g_variant_ref_sink(g_variant_new("(@a{oa{sa{sv}}})", g_variant_builder_end(&builder)));
    return cbus_roster_read(objects);
}

/* The names selected, or the error's message. */
static char *
select_names(gboolean pinned, const char *list, gboolean unpinned)
{
    g_autoptr(GPtrArray) roster = roster_new(pinned);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) machines = cbus_select_machines(roster, list, unpinned, &error);
    GString *out = g_string_new(NULL);

    if (machines == NULL)
        g_string_append(out, error->message);
    for (guint i = 0; machines != NULL && i < machines->len; i++)
        g_string_append_printf(out, "%s ", ((CbusRosterMachine *)machines->pdata[i])->name);
    return g_string_free(out, FALSE);
}

static void
test_all_are_the_pinned_ones_if_there_are_any(void)
{
    g_autofree char *pinned = select_names(TRUE, NULL, FALSE), *all = select_names(TRUE, NULL, TRUE);
    g_autofree char *none_pinned = select_names(FALSE, NULL, FALSE);

    g_assert_cmpstr(pinned, ==, "web1 web2 ");
    g_assert_cmpstr(all, ==, "web1 web2 web9 ");
    g_assert_cmpstr(none_pinned, ==, "web1 web2 web9 ");
}

static void
test_words_are_nkeys_names_beginnings_and_globs(void)
{
    static const struct {
        const char *list, *names;
    } cases[] = {
        {"web2", "web2 "},
        {"web2,web1", "web2 web1 "},
        {WEB1, "web1 "},
        {"UAWEB2", "web2 "},
        {"UASTR", "web9 "},
        {"web*", "web1 web2 "}, /* not the claimed web9 */
        {"web[13]", "web1 "},
        {"web1,web?,UAWEB1", "web1 web2 "},
        {"UAWEB", "the NKeys of 2 machines begin with UAWEB: write more of it"},
        {"UAWE", "there is no machine UAWE: cbus machines lists those there are"},
        {"db*", "no pinned name fits db*: cbus machines lists those there are"},
        {"@all", "web1 web2 "}, /* and no machine that is not pinned */
        {"@web2,web1", "web2 web1 "},
        {"@none", "no machine has the tag none: tags are the third word of a line in known_machines"},
        {",", ""},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *names = select_names(TRUE, cases[i].list, FALSE);

        g_assert_cmpstr(names, ==, cases[i].names);
    }
}

static void
test_a_claimed_name_selects_nothing_and_the_error_says_whose_it_is(void)
{
    g_autofree char *text = select_names(TRUE, "web9", FALSE);

    g_assert_nonnull(g_strstr_len(text, -1, STRAY));
}

static const char xml[] = "<node>"
                          "<interface name='a.One'><method name='Go'><arg type='s' direction='in'/>"
                          "<arg type='u' direction='out'/><arg type='a{sv}'/></method>"
                          "<property name='Level' type='u' access='read'/></interface>"
                          "<interface name='a.Two'><property name='Level' type='s' access='read'/>"
                          "<method name='Stop'/></interface></node>";

static void
test_a_member_of_one_interface_is_found_with_its_signature(void)
{
    g_auto(CbusMember) go = {0}, stop = {0};
    g_autoptr(GError) error = NULL;

    g_assert_true(cbus_member_parse("Go", &go, &error) && cbus_member_parse("a.Two.Stop", &stop, &error));
    g_assert_true(cbus_member_match(xml, CBUS_MEMBER_METHOD, &go, &error));
    g_assert_cmpstr(go.interface, ==, "a.One");
    g_assert_cmpstr(go.signature, ==, "sa{sv}");
    g_assert_true(cbus_member_match(xml, CBUS_MEMBER_METHOD, &stop, &error));
    g_assert_cmpstr(stop.interface, ==, "a.Two");
    g_assert_cmpstr(stop.signature, ==, "");
}

static void
test_a_member_of_several_interfaces_is_an_error_that_lists_them(void)
{
    g_auto(CbusMember) level = {0}, none = {0};
    g_autoptr(GError) error = NULL, missing = NULL;

    g_assert_true(cbus_member_parse("Level", &level, &error) && cbus_member_parse("None", &none, &error));
    g_assert_false(cbus_member_match(xml, CBUS_MEMBER_PROPERTY, &level, &error));
    g_assert_error(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_AMBIGUOUS);
    g_assert_nonnull(g_strstr_len(error->message, -1, "a.One.Level, a.Two.Level"));
    g_assert_false(cbus_member_match(xml, CBUS_MEMBER_PROPERTY, &none, &missing));
    g_assert_error(missing, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_NONE);
}

static void
test_words_that_are_no_member_are_refused(void)
{
    static const char *const words[] = {"", ".", "a.", ".Go", "1Go", "a..Go", "Go-Go", "/path"};

    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        g_auto(CbusMember) member = {0};
        g_autoptr(GError) error = NULL;

        g_assert_false(cbus_member_parse(words[i], &member, &error));
        g_assert_error(error, CBUS_MEMBER_ERROR, CBUS_MEMBER_ERROR_WORD);
        g_assert_null(member.name);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/select/all", test_all_are_the_pinned_ones_if_there_are_any);
    g_test_add_func("/select/words", test_words_are_nkeys_names_beginnings_and_globs);
    g_test_add_func("/select/claimed", test_a_claimed_name_selects_nothing_and_the_error_says_whose_it_is);
    g_test_add_func("/member/found", test_a_member_of_one_interface_is_found_with_its_signature);
    g_test_add_func("/member/several", test_a_member_of_several_interfaces_is_an_error_that_lists_them);
    g_test_add_func("/member/words", test_words_that_are_no_member_are_refused);
    return g_test_run();
}
