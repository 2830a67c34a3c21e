/* Which machines the roster lists and dials, how long, and under which name: pinned ones always, others while
 * they are there, few of them at a time, and none that could be taken for another. What the bus sees of them
 * is in test-roster-bus.c. */
#include "roster-fixture.h"

static void
test_pinned_machines_are_always_listed(RosterFixture *fixture, gconstpointer data)
{
    CbusKey key = roster_base_point();
    roster_pin(fixture, &key, "web1");
    g_assert_true(roster_wants(&key));
    roster_assert_signal(fixture, "InterfacesAdded");

    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) all =
        private_bus_call(&fixture->bus, NAME, CBUS_ROOT_PATH, CBUS_INTERFACE_OBJECT_MANAGER,
                         "GetManagedObjects", NULL, &error);
    g_assert_no_error(error);
    g_autofree char *text = g_variant_print(all, FALSE);
    g_assert_nonnull(strstr(text, "'Name': <'web1'>, 'NamePinned': <true>, 'Online': <false>"));

    roster_pin(fixture, &key, "web2");
    roster_assert_signal(fixture, "PropertiesChanged ('ie.bmcgee.CBus1.Machine', {'Name': <'web2'>}, [])");

    /* It vanishes from NATS, and stays. */
    dialer->handler.vanished(&key, dialer->user_data);
    g_assert_nonnull(cbus_roster_lookup(fixture->roster, &key));

    roster_unpin_all(fixture);
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    g_assert_false(roster_wants(&key));
    roster_assert_signal(fixture, "InterfacesRemoved");
}

static void
test_unpinned_machines_are_listed_while_there(RosterFixture *fixture, gconstpointer data)
{
    CbusKey key = roster_base_point();
    g_assert_true(roster_announce(&key));
    roster_assert_signal(fixture, "InterfacesAdded");
    roster_link_up(fixture, &key, "web1");
    dialer->handler.vanished(&key, dialer->user_data);
    g_assert_nonnull(cbus_roster_lookup(fixture->roster, &key));

    /* Pinned while online, and no longer: the link stays all the time. */
    roster_pin(fixture, &key, "pinned");
    roster_unpin_all(fixture);
    roster_assert_property(fixture, &key, "Online", "true");
    roster_assert_property(fixture, &key, "Name", "'web1'");
    g_assert_cmpuint(dialer->forgotten, ==, 0);

    cbus_machine_close_link(cbus_roster_lookup(fixture->roster, &key), "test");
    g_assert_cmpuint(dialer->forgotten, ==, 1);
    dialer->handler.vanished(&key, dialer->user_data);
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    roster_assert_signal(fixture, "InterfacesRemoved");
}

static void
test_newcomers_are_limited(RosterFixture *fixture, gconstpointer data)
{
    guint admitted = 0;
    gint64 begin = g_get_monotonic_time();
    for (guint8 i = 0; i < 100; i++) {
        CbusKey key = roster_key_number(i);
        admitted += roster_announce(&key) ? 1 : 0;
    }
    gint64 seconds = (g_get_monotonic_time() - begin) / G_USEC_PER_SEC + 1;
    g_assert_cmpuint(admitted, >=, CBUS_ROSTER_NEW_PER_SECOND);
    g_assert_cmpuint(admitted, <=, CBUS_ROSTER_NEW_PER_SECOND * (seconds + 1));
}

static void
test_known_only_lists_no_others(RosterFixture *fixture, gconstpointer data)
{
    CbusKey key = roster_base_point();
    g_assert_false(roster_announce(&key));
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    roster_pin(fixture, &key, "web1");
    roster_link_up(fixture, &key, "other");
    roster_assert_property(fixture, &key, "Online", "true");
    roster_unpin_all(fixture);
    g_assert_null(cbus_roster_lookup(fixture->roster, &key));
    g_assert_cmpuint(dialer->forgotten, ==, 0);
}

static void
test_claimed_names_can_not_imitate(RosterFixture *fixture, gconstpointer data)
{
    CbusKey pinned = roster_base_point(), other = roster_key_number(9), third = roster_key_number(10);
    roster_pin(fixture, &pinned, "web-1");
    roster_announce(&other);
    roster_announce(&third);
    roster_link_up(fixture, &other, "WEB1");
    roster_assert_property(fixture, &other, "Name", "''");
    g_autofree char *why = roster_property(fixture, &other, "LastError");
    g_assert_nonnull(strstr(why, "could be taken for"));
    roster_link_up(fixture, &third, "evil\033[2Jname");
    roster_assert_property(fixture, &third, "Name", "''");
    roster_assert_property(fixture, &third, "BootId", "''");
    roster_assert_property(fixture, &third, "MachineId", "'0123456789abcdef0123456789abcdef'");
    roster_unpin_all(fixture);
    roster_assert_property(fixture, &other, "Name", "'WEB1'");
    roster_assert_property(fixture, &other, "LastError", "''");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func, data)                                                                                \
    g_test_add("/roster/" name, RosterFixture, data, roster_set_up, func, roster_tear_down)
    ADD("pinned-machines-are-always-listed", test_pinned_machines_are_always_listed, NULL);
    ADD("unpinned-machines-are-listed-while-there", test_unpinned_machines_are_listed_while_there, NULL);
    ADD("newcomers-are-limited", test_newcomers_are_limited, NULL);
    ADD("known-only-lists-no-others", test_known_only_lists_no_others, "known-only");
    ADD("claimed-names-can-not-imitate", test_claimed_names_can_not_imitate, NULL);
    return g_test_run();
}
