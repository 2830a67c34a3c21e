/* cbus machines: what the proxy knows of each machine, and waiting until enough are there.
 *
 * One question, ObjectManager.GetManagedObjects on /ie/bmcgee/CBus, tells everything. --wait asks again
 * whenever the proxy says that something changed (its signals, or its name's owner), and never by the clock:
 * signals that come while a question is under way make one more question, not many. It waits for the proxy,
 * too, so that a script can start it and wait in the next line. --watch listens in the same way, shows each
 * answer, and asks every two seconds besides, since ages and round trips change without a signal.
 *
 * --timeout bounds everything after connecting, so that a proxy that hangs costs seconds. Exit status: 0 when
 * listed (or as many as asked for are online), 1 when they are not or the proxy did not answer, 3 without a
 * proxy. What was known last is printed even then: it says why. One thread, one GMainLoop. */
#include "cli/cli.h"

#include "cli/bus.h"
#include "cli/roster.h"
#include "cli/select.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define RETRY_MS   200 /* while the proxy owns its name and has no objects yet */
#define REFRESH_MS 2000
#define PAUSE_MS   200 /* between two listings: many machines may change at once */
#define HOME       "\033[H\033[2J"

typedef struct {
    GMainLoop *loop;
    GDBusConnection *connection;
    guint wait; /* how many are to be online */
    gboolean watch, json;
    gboolean asking, changed, soon;
    guint retry;       /* a timer that asks */
    char *shown;       /* the last listing */
    char *nkeys;       /* which machines; NULL: all */
    GPtrArray *all;    /* the last answer, or NULL */
    GPtrArray *roster; /* what of it is to be listed, or NULL */
    GError *error;     /* why there is none */
    gboolean done;     /* not cut off by the timeout */
} Listing;

static void ask(Listing *listing);

static gboolean
on_retry(gpointer user_data)
{
    Listing *listing = user_data;

    listing->retry = 0;
    ask(listing);
    return G_SOURCE_REMOVE;
}

static void
ask_in(Listing *listing, guint ms)
{
    g_clear_handle_id(&listing->retry, g_source_remove);
    listing->retry = g_timeout_add(ms, on_retry, listing);
}

static void
finish(Listing *listing)
{
    listing->done = TRUE;
    g_main_loop_quit(listing->loop);
}

/* TRUE if what NOW says (transfer full) was not shown last. */
static gboolean
is_news(Listing *listing, char *now)
{
    gboolean news = g_strcmp0(now, listing->shown) != 0;

    g_free(listing->shown);
    listing->shown = now;
    return news;
}

/* What makes a listing news in a log, where ages are none: a machine, its name, state or reason. */
static char *
states(const GPtrArray *roster)
{
    GString *now = g_string_new(NULL);

    for (guint i = 0; i < roster->len; i++) {
        const CbusRosterMachine *machine = roster->pdata[i];

        g_string_append_printf(now, "%s %s %s %s\n", machine->nkey, machine->name, machine->state,
                               machine->last_error);
    }
    return g_string_free(now, FALSE);
}

/* The roster, or why there is none: in place on a terminal that can, else if it is news. */
static void
show(Listing *listing)
{
    gboolean in_place = !listing->json && isatty(STDOUT_FILENO) && g_strcmp0(g_getenv("TERM"), "dumb") != 0;
    const char *home = in_place ? HOME : "";
    gboolean news;

    if (listing->roster == NULL) {
        gboolean absent = cbus_bus_has_no_proxy(listing->error);
        g_autofree char *why = g_strdup(absent ? "there is no cbus-proxy" : listing->error->message);

        if (!is_news(listing, g_strdup(why)))
            return;
        if (in_place)
            g_print("%s", home);
        fflush(stdout);
        cbus_cli_complain("%s: waiting for it", why);
        return;
    }
    news = is_news(listing, states(listing->roster));
    if (!in_place && !news)
        return;
    if (listing->json) {
        g_autofree char *text = cbus_roster_json(listing->roster);

        fputs(text, stdout);
    } else {
        g_autofree char *text = cbus_roster_table(listing->roster, g_get_real_time());

        g_print("%s%s", home, text);
    }
    if (fflush(stdout) != 0)
        finish(listing);
}

static void
forget(Listing *listing)
{
    g_clear_error(&listing->error);
    g_clear_pointer(&listing->roster, g_ptr_array_unref);
    g_clear_pointer(&listing->all, g_ptr_array_unref);
}

static void
take_answer(Listing *listing, GVariant *answer)
{
    forget(listing);
    listing->all = cbus_roster_read(answer);
    listing->roster = listing->nkeys == NULL
                          ? g_ptr_array_ref(listing->all)
                          : cbus_select_machines(listing->all, listing->nkeys, FALSE, &listing->error);
    if (listing->watch) {
        show(listing);
        ask_in(listing, listing->changed ? PAUSE_MS : REFRESH_MS);
        listing->changed = FALSE;
        return;
    }
    /* A machine that is not known yet may come. */
    if (listing->wait == 0 ||
        (listing->roster != NULL && cbus_roster_online(listing->roster) >= listing->wait))
        finish(listing);
}

static void
take_error(Listing *listing, GError *error)
{
    forget(listing);
    listing->error = error;
    if (listing->wait == 0 && !listing->watch) {
        finish(listing);
        return;
    }
    if (listing->watch)
        show(listing);
    /* Without an owner, its coming is a signal; an owner without objects registers them any moment now. */
    if (!cbus_bus_has_no_proxy(error) && listing->retry == 0)
        ask_in(listing, RETRY_MS);
}

static void
on_answer(GObject *source, GAsyncResult *result, gpointer user_data)
{
    Listing *listing = user_data;
    GError *error = NULL;
    g_autoptr(GVariant) answer = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);

    listing->asking = FALSE;
    if (listing->done) {
        g_clear_error(&error);
        return;
    }
    if (answer != NULL)
        take_answer(listing, answer);
    else
        take_error(listing, error);
    if (listing->changed && !listing->done)
        ask(listing);
}

static void
ask(Listing *listing)
{
    listing->changed = listing->asking;
    if (listing->asking)
        return;
    listing->asking = TRUE;
    listing->soon = FALSE;
    g_dbus_connection_call(listing->connection, CBUS_PROXY_NAME, CBUS_PROXY_PATH,
                           "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
                           G_VARIANT_TYPE("(a{oa{sa{sv}}})"), G_DBUS_CALL_FLAGS_NONE, G_MAXINT, NULL,
                           on_answer, listing);
}

static void
on_signal(GDBusConnection *connection, const char *sender, const char *path, const char *interface,
          const char *member, GVariant *body, gpointer user_data)
{
    Listing *listing = user_data;

    if (!listing->watch || listing->asking) {
        ask(listing);
    } else if (!listing->soon) { /* listings keep their distance, but are not put off */
        listing->soon = TRUE;
        ask_in(listing, PAUSE_MS);
    }
}

static void
on_gone(gpointer user_data)
{
    Listing *listing = user_data;

    if (listing->done) /* by the bus's last answer */
        return;
    forget(listing);
    listing->error = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CLOSED, "the bus closed the connection");
    finish(listing);
}

static gboolean
on_timeout(gpointer user_data)
{
    g_main_loop_quit(((Listing *)user_data)->loop);
    return G_SOURCE_CONTINUE;
}

static void
watch(Listing *listing)
{
    static const CbusBusRule rules[] = {
        {.sender = CBUS_PROXY_NAME,
         .path = CBUS_PROXY_PATH,
         .interface = "org.freedesktop.DBus.ObjectManager"},
        {.sender = CBUS_PROXY_NAME,
         .interface = "org.freedesktop.DBus.Properties",
         .member = "PropertiesChanged",
         .arg0 = CBUS_MACHINE_INTERFACE},
        {.sender = "org.freedesktop.DBus",
         .interface = "org.freedesktop.DBus",
         .member = "NameOwnerChanged",
         .arg0 = CBUS_PROXY_NAME},
    };

    for (guint i = 0; i < G_N_ELEMENTS(rules); i++)
        (void)cbus_bus_subscribe(listing->connection, &rules[i], on_signal, listing);
}

/* Asks, and with --wait waits; at most TIMEOUT seconds. */
static void
run(Listing *listing, double timeout)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    g_autoptr(CbusBusWatch) bus = cbus_bus_watch_new(listing->connection, on_gone, listing);
    guint timer = listing->watch ? 0 : g_timeout_add((guint)ceil(timeout * 1000), on_timeout, listing);

    listing->loop = loop;
    if (listing->wait > 0 || listing->watch)
        watch(listing);
    ask(listing);
    g_main_loop_run(loop);
    g_clear_handle_id(&timer, g_source_remove);
    g_clear_handle_id(&listing->retry, g_source_remove);
}

/* Why nothing can be listed. */
static CbusExit
report_error(const Listing *listing, double timeout)
{
    const GError *error = listing->error;

    if (error == NULL) {
        cbus_cli_complain("the proxy did not answer within %g s", timeout);
        return CBUS_EXIT_FAILED;
    }
    if (cbus_bus_has_no_proxy(error)) {
        cbus_bus_complain_no_proxy();
        return CBUS_EXIT_NOBODY;
    }
    if (error->domain == CBUS_SELECT_ERROR) {
        cbus_cli_complain("%s", error->message);
        return error->code == CBUS_SELECT_ERROR_NONE ? CBUS_EXIT_NOBODY : CBUS_EXIT_USAGE;
    }
    cbus_cli_complain("the proxy could not be asked: %s", error->message);
    return CBUS_EXIT_FAILED;
}

static CbusExit
report(const Listing *listing, double timeout)
{
    g_autofree char *text = NULL;
    guint online;

    if (listing->roster == NULL)
        return report_error(listing, timeout);
    online = cbus_roster_online(listing->roster);
    text = listing->json ? cbus_roster_json(listing->roster)
                         : cbus_roster_table(listing->roster, g_get_real_time());
    if (listing->json)
        fputs(text, stdout); /* UTF-8 in any locale; g_print would make question marks of it */
    else if (listing->roster->len > 0)
        g_print("%s", text);
    else
        g_printerr("cbus: no machine is known: none announced itself, and known_machines names none\n");
    if (online >= listing->wait)
        return CBUS_EXIT_OK;
    cbus_cli_complain("%u of %u machines are online after %g s", online, listing->wait, timeout);
    return CBUS_EXIT_FAILED;
}

CbusExit
cbus_cli_machines(int argc, char **argv)
{
    Listing listing = {0};
    g_autofree char *bus = NULL;
    g_auto(GStrv) lists = NULL;
    g_autoptr(GError) error = NULL;
    int wait = 0;
    double timeout = 10;
    const GOptionEntry entries[] = {
        {"nkeys", 0, 0, G_OPTION_ARG_STRING_ARRAY, &lists, "These machines alone", "A,B"},
        {"on", 0, 0, G_OPTION_ARG_STRING_ARRAY, &lists, "The same; @TAG: all with that tag", "@TAG"},
        {"wait", 0, 0, G_OPTION_ARG_INT, &wait, "Wait until N machines are online", "N"},
        {"watch", 0, 0, G_OPTION_ARG_NONE, &listing.watch, "Stay, and show what changes", NULL},
        {"timeout", 0, 0, G_OPTION_ARG_DOUBLE, &timeout, "Give up after S seconds (default: 10)", "S"},
        {"json", 0, 0, G_OPTION_ARG_NONE, &listing.json, "Print a JSON array", NULL},
        CBUS_BUS_OPTION(&bus),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- list the machines that the proxy knows");
    CbusExit status;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!cbus_cli_parse(context, &argc, &argv, 0, 0))
        return CBUS_EXIT_USAGE;
    if (wait < 0 || !(timeout > 0 && timeout <= 86400)) {
        cbus_cli_complain("--wait takes a number from 0, --timeout seconds above 0 and up to 86400");
        return CBUS_EXIT_USAGE;
    }
    if (listing.watch && wait > 0) {
        cbus_cli_complain("--watch stays for ever, --wait does not: give one of them");
        return CBUS_EXIT_USAGE;
    }
    listing.wait = (guint)wait;
    listing.connection = cbus_bus_open(bus, &error);
    if (listing.connection == NULL) {
        cbus_cli_complain("%s. Name the bus that cbus-proxy is on with --bus or CBUS_BUS", error->message);
        return CBUS_EXIT_NOBODY;
    }
    listing.nkeys = lists != NULL ? g_strjoinv(",", lists) : NULL;
    run(&listing, timeout);
    status = report(&listing, timeout);
    forget(&listing);
    g_free(listing.nkeys);
    g_free(listing.shown);
    g_object_unref(listing.connection);
    return status;
}
