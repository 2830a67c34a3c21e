/* What the audit promises, against a journal of the test's own: a datagram socket that reads when it wants.
 */
#include "agent/audit.h"
#include "link/log.h"
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSTEMD "org.freedesktop.systemd1"
#define UNIT    "/org/freedesktop/systemd1/unit/nginx_2eservice"

typedef struct {
    char *folder, *socket;
    int journal;
    CbusLoop loop;
    CbusAudit *audit;
    CbusAuditTrail *trail;
    GByteArray *message;
    CbusMessage view;
} Fixture;

static const guint8 link_id[16] = {0xab, 0xcd};
static const CbusKey caller = {.bytes = {7}};

static void
journal_start(Fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    g_strlcpy(address.sun_path, f->socket, sizeof address.sun_path);
    (void)g_unlink(f->socket);
    f->journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(f->journal, (struct sockaddr *)&address, sizeof address), ==, 0);
}

/* The next record, or NULL when there is none. Its length frames hold NULs, which become spaces. */
static char *
next_record(Fixture *f)
{
    char room[16384];
    gssize n = recv(f->journal, room, sizeof room, 0);

    if (n < 0)
        return NULL;
    for (gssize i = 0; i < n; i++)
        if (room[i] == '\0')
            room[i] = ' ';
    return g_strndup(room, (gsize)n);
}

static gboolean
has_field(const char *record, const char *field)
{
    g_auto(GStrv) lines = g_strsplit(record, "\n", -1);

    return g_strv_contains((const char *const *)lines, field);
}

#define assert_field(record, field)                                                                          \
    G_STMT_START                                                                                             \
    {                                                                                                        \
        if (!has_field(record, field))                                                                       \
            g_error("no %s in:\n%s", field, record);                                                         \
    }                                                                                                        \
    G_STMT_END

static guint
drain(Fixture *f)
{
    guint n = 0;

    for (char *record; (record = next_record(f)) != NULL; n++)
        g_free(record);
    return n;
}

static const CbusMessage *
message(Fixture *f, CbusMessageType type, const char *path, const char *interface, const char *member)
{
    const CbusHeader header = {.endian = CBUS_ENDIAN_NATIVE,
                               .type = (guint8)type,
                               .serial = 1,
                               .path = cbus_span(path),
                               .interface = cbus_span(interface),
                               .member = cbus_span(member),
                               .destination = CBUS_SPAN_LITERAL(SYSTEMD)};
    g_autoptr(GError) error = NULL;

    g_byte_array_set_size(f->message, 0);
    cbus_message_append(f->message, &header, "s", "the argument");
    gboolean viewed = cbus_message_view(&f->view, f->message->data, f->message->len, &error);
    g_assert_no_error(error);
    g_assert_true(viewed);
    return &f->view;
}

static const CbusMessage *
stop(Fixture *f)
{
    return message(f, CBUS_MESSAGE_CALL, UNIT, SYSTEMD ".Unit", "Stop");
}

static void
start_audit(Fixture *f, gboolean lenient)
{
    CbusAuditOptions options = {.target = CBUS_AUDIT_JOURNAL, .lenient = lenient, .socket = f->socket};

    cbus_audit_options_open(&options);
    f->audit = cbus_audit_new(&f->loop, &options);
    f->trail = cbus_audit_trail_new(f->audit, &caller, link_id, 3, 1000);
}

static void
set_up(Fixture *f, gconstpointer lenient)
{
    f->folder = g_dir_make_tmp("cbus-audit-XXXXXX", NULL);
    f->socket = g_build_filename(f->folder, "socket", NULL);
    f->loop.context = g_main_context_new();
    f->message = g_byte_array_new();
    journal_start(f);
    start_audit(f, lenient != NULL);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    g_clear_pointer(&f->trail, cbus_audit_trail_free);
    cbus_audit_free(f->audit);
    close(f->journal);
    (void)g_unlink(f->socket);
    (void)g_rmdir(f->folder);
    g_byte_array_unref(f->message);
    g_main_context_unref(f->loop.context);
    g_free(f->socket);
    g_free(f->folder);
}

static void
test_fields(Fixture *f, gconstpointer data)
{
    char nkey[CBUS_NKEY_LENGTH + 1];
    g_autofree char *opened = NULL, *called = NULL, *proxy = NULL;

    cbus_nkey_encode(&caller, nkey);
    proxy = g_strconcat("CBUS_PROXY=", nkey, NULL);
    g_assert_true(cbus_audit_opened(f->trail, 0, "root"));
    opened = next_record(f);
    g_assert_nonnull(opened);
    assert_field(opened, "MESSAGE_ID=" CBUS_AUDIT_ID_OPENED);
    assert_field(opened, "CBUS_VERDICT=allowed");
    assert_field(opened, proxy);
    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    called = next_record(f);
    g_assert_nonnull(called);
    assert_field(called, "MESSAGE_ID=" CBUS_AUDIT_ID_CALLED);
    assert_field(called, "CBUS_VERDICT=allowed");
    assert_field(called, proxy);
    assert_field(called, "CBUS_LINK=abcd0000000000000000000000000000");
    assert_field(called, "CBUS_CHANNEL=3");
    assert_field(called, "CBUS_CLAIMED_UID=1000");
    assert_field(called, "CBUS_UID=0");
    assert_field(called, "CBUS_USER=root");
    assert_field(called, "CBUS_DESTINATION=" SYSTEMD);
    assert_field(called, "CBUS_PATH=" UNIT);
    assert_field(called, "CBUS_INTERFACE=" SYSTEMD ".Unit");
    assert_field(called, "CBUS_MEMBER=Stop");
    g_assert_null(g_strstr_len(called, -1, "argument"));
}

/* Nobody proved who he is: the caller is the gateway, and no link or channel is claimed. */
static void
test_gateway(Fixture *f, gconstpointer data)
{
    CbusAuditTrail *trail = cbus_audit_trail_new_gateway(f->audit);
    g_autofree char *opened = NULL, *called = NULL, *denied = NULL;

    g_assert_true(cbus_audit_opened(trail, 1000, "alice"));
    opened = next_record(f);
    g_assert_nonnull(opened);
    assert_field(opened, "MESSAGE=gateway opened a channel as alice");
    assert_field(opened, "CBUS_PROXY=gateway");
    g_assert_true(cbus_audit_forward(trail, stop(f)));
    called = next_record(f);
    g_assert_nonnull(called);
    assert_field(called, "MESSAGE=gateway called " SYSTEMD ".Unit.Stop on " SYSTEMD " " UNIT " as alice");
    assert_field(called, "CBUS_PROXY=gateway");
    assert_field(called, "CBUS_USER=alice");
    g_assert_null(g_strstr_len(called, -1, "CBUS_LINK"));
    g_assert_null(g_strstr_len(called, -1, "CBUS_CHANNEL"));
    cbus_audit_denied(trail, stop(f), "policy");
    denied = next_record(f);
    g_assert_nonnull(denied);
    assert_field(denied, "CBUS_VERDICT=denied");
    assert_field(denied, "CBUS_PROXY=gateway");
    cbus_audit_trail_free(trail);
}

static void
test_plain_reads(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *interface, *member;
        gboolean recorded;
    } rows[] = {
        {"org.freedesktop.DBus.Properties", "Get", FALSE},
        {"org.freedesktop.DBus.Properties", "GetAll", FALSE},
        {"org.freedesktop.DBus.Properties", "Set", TRUE},
        {"org.freedesktop.DBus.Introspectable", "Introspect", FALSE},
        {"org.freedesktop.DBus.Introspectable", "Other", TRUE},
        {"org.freedesktop.DBus.Peer", "Ping", FALSE},
        {"org.freedesktop.DBus.ObjectManager", "GetManagedObjects", FALSE},
        {"org.freedesktop.DBus.ObjectManager", "Get", TRUE},
        {"org.freedesktop.DBus.PropertiesX", "Get", TRUE},
        {SYSTEMD ".Manager", "Get", TRUE},
        {NULL, "Get", TRUE}, /* whose Get it is nobody knows */
    };

    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_true(cbus_audit_forward(
            f->trail, message(f, CBUS_MESSAGE_CALL, "/a", rows[i].interface, rows[i].member)));
        g_assert_cmpint(drain(f), ==, rows[i].recorded);
    }
    g_assert_true(cbus_audit_forward(f->trail, message(f, CBUS_MESSAGE_SIGNAL, "/a", "a.b", "Get")));
    g_assert_cmpint(drain(f), ==, 1);
}

static void
test_repeats(Fixture *f, gconstpointer data)
{
    g_autofree char *first = NULL, *other = NULL, *counted = NULL;

    for (guint i = 0; i < 1000; i++)
        g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    g_assert_true(
        cbus_audit_forward(f->trail, message(f, CBUS_MESSAGE_CALL, UNIT, SYSTEMD ".Unit", "Start")));
    first = next_record(f);
    assert_field(first, "CBUS_MEMBER=Stop");
    other = next_record(f);
    assert_field(other, "CBUS_MEMBER=Start");
    g_assert_cmpint(drain(f), ==, 0);
    while (counted == NULL) {
        g_main_context_iteration(f->loop.context, TRUE);
        counted = next_record(f);
    }
    assert_field(counted, "MESSAGE_ID=" CBUS_AUDIT_ID_CALLED);
    assert_field(counted, "CBUS_MEMBER=Stop");
    assert_field(counted, "CBUS_COUNT=999");
    g_assert_cmpint(drain(f), ==, 0);
    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    g_assert_cmpint(drain(f), ==, 1);
}

static void
test_end_writes_counts(Fixture *f, gconstpointer data)
{
    g_autofree char *counted = NULL;

    for (guint i = 0; i < 3; i++)
        g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    g_free(next_record(f));
    g_clear_pointer(&f->trail, cbus_audit_trail_free);
    counted = next_record(f);
    g_assert_nonnull(counted);
    assert_field(counted, "CBUS_COUNT=2");
}

static void
test_other_trail(Fixture *f, gconstpointer data)
{
    CbusAuditTrail *other = cbus_audit_trail_new(f->audit, &caller, link_id, 4, G_MAXUINT32);
    g_autofree char *record = NULL;

    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    g_assert_true(cbus_audit_forward(other, stop(f)));
    g_free(next_record(f));
    record = next_record(f);
    g_assert_nonnull(record);
    assert_field(record, "CBUS_CHANNEL=4");
    g_assert_null(g_strstr_len(record, -1, "CLAIMED"));
    cbus_audit_trail_free(other);
}

static void
test_denied(Fixture *f, gconstpointer data)
{
    g_autofree char *record = NULL;

    cbus_audit_denied(f->trail, stop(f), "no rule\nCBUS_VERDICT=allowed");
    record = next_record(f);
    g_assert_nonnull(record);
    assert_field(record, "MESSAGE_ID=" CBUS_AUDIT_ID_DENIED);
    assert_field(record, "CBUS_VERDICT=denied");
    /* Framed by its length: 7 + 1 + 20 bytes. A reader takes none of it for a field. */
    g_assert_nonnull(g_strstr_len(record, -1, "CBUS_REASON\n\x1c       no rule\nCBUS_VERDICT=allowed\n"));
}

static void
test_long_path(Fixture *f, gconstpointer data)
{
    g_autofree char *path = g_strnfill(100000, 'a'), *record = NULL;

    path[0] = '/';
    g_assert_true(cbus_audit_forward(f->trail, message(f, CBUS_MESSAGE_CALL, path, "a.b", "C")));
    record = next_record(f);
    g_assert_nonnull(record);
    g_assert_cmpint(strlen(record), <, 4096);
    assert_field(record, "CBUS_PATH_LENGTH=100000");
    assert_field(record, "CBUS_MEMBER=C");
}

static void
fill_journal(Fixture *f)
{
    for (guint i = 0; cbus_audit_forward(f->trail, stop(f)); i++) {
        g_autofree char *member = g_strdup_printf("Fill%u", i);
        if (!cbus_audit_forward(f->trail, message(f, CBUS_MESSAGE_CALL, "/a", "a.b", member)))
            return;
    }
}

static void
test_full_journal_denies(Fixture *f, gconstpointer data)
{
    g_autofree char *record = NULL;

    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    fill_journal(f);
    /* A repeat is not merely counted while nothing can be written; plain reads go on. */
    g_assert_false(cbus_audit_forward(f->trail, stop(f)));
    g_assert_true(cbus_audit_forward(
        f->trail, message(f, CBUS_MESSAGE_CALL, "/a", "org.freedesktop.DBus.Properties", "Get")));
    g_assert_cmpint(drain(f), >, 1);
    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    /* What was counted before the outage comes first. */
    record = next_record(f);
    g_assert_nonnull(record);
    assert_field(record, "CBUS_MEMBER=Stop");
    g_assert_nonnull(g_strstr_len(record, -1, "CBUS_COUNT="));
    g_assert_nonnull(g_strstr_len(record, -1, "CBUS_AUDIT_LOST=2\n"));
}

static void
test_lenient(Fixture *f, gconstpointer data)
{
    g_autofree char *record = NULL;

    close(f->journal);
    for (guint i = 0; i < 5; i++)
        g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    g_assert_true(cbus_audit_opened(f->trail, 0, NULL));
    journal_start(f);
    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    record = next_record(f);
    g_assert_nonnull(record);
    assert_field(record, "CBUS_AUDIT_LOST=6");
}

static void
test_no_journal_denies(Fixture *f, gconstpointer data)
{
    close(f->journal);
    (void)g_unlink(f->socket);
    g_assert_false(cbus_audit_forward(f->trail, stop(f)));
    g_assert_false(cbus_audit_opened(f->trail, 0, NULL));
    journal_start(f);
    g_assert_true(cbus_audit_forward(f->trail, stop(f)));
    g_assert_cmpint(drain(f), ==, 1);
}

static guint64
number_of(const char *record, const char *field)
{
    const char *at = strstr(record, field);

    return at != NULL ? g_ascii_strtoull(at + strlen(field), NULL, 10) : 0;
}

/* How many events the records that are there speak for. */
static guint64
account(Fixture *f)
{
    guint64 events = 0;

    for (char *record; (record = next_record(f)) != NULL; g_free(record)) {
        guint64 count = number_of(record, "CBUS_COUNT=");
        events += (count > 0 ? count : 1) + number_of(record, "CBUS_AUDIT_LOST=");
    }
    return events;
}

static void
test_every_event_is_accounted_for(Fixture *f, gconstpointer data)
{
    guint64 events = 0;

    for (guint i = 0; i < 5000; i++) {
        g_autofree char *member = g_strdup_printf("M%u", i);
        const CbusMessage *call = message(f, CBUS_MESSAGE_CALL, "/a", "a.b", member);
        g_assert_true(cbus_audit_forward(f->trail, call));
        g_assert_true(cbus_audit_forward(f->trail, call));
        if (i % 5 == 0)
            events += account(f);
    }
    g_clear_pointer(&f->trail, cbus_audit_trail_free);
    events += account(f);
    f->trail = cbus_audit_trail_new(f->audit, &caller, link_id, 4, G_MAXUINT32);
    g_assert_true(cbus_audit_opened(f->trail, 0, NULL));
    events += account(f);
    g_assert_cmpuint(events, ==, 10001);
}

static void
write_stderr(const char *target, const char *reason)
{
    Fixture f = {.loop = {.context = g_main_context_new()}, .message = g_byte_array_new()};
    CbusAuditOptions options;

    g_assert_true(cbus_audit_options_parse(target, NULL, &options, NULL));
    f.audit = cbus_audit_new(&f.loop, &options);
    f.trail = cbus_audit_trail_new(f.audit, &caller, link_id, 3, G_MAXUINT32);
    g_assert_true(cbus_audit_opened(f.trail, 1000, NULL));
    cbus_audit_denied(f.trail, stop(&f), reason);
    cbus_audit_trail_free(f.trail);
    cbus_audit_free(f.audit);
    g_byte_array_unref(f.message);
    g_main_context_unref(f.loop.context);
}

static void
test_stderr(void)
{
    if (g_test_subprocess()) {
        write_stderr("stderr", "no rule\nforged");
        write_stderr("off", "silence");
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_passed();
    g_test_trap_assert_stderr("*cbus-agent: audit: U* opened a channel as uid 1000 *verdict=allowed*");
    g_test_trap_assert_stderr("*was denied to call " SYSTEMD ".Unit.Stop on " SYSTEMD " " UNIT
                              " as uid 1000 *verdict=denied*reason=no rule\\x0aforged*");
    g_test_trap_assert_stderr_unmatched("*silence*");
}

static void
test_options(void)
{
    CbusAuditOptions options = {.target = CBUS_AUDIT_OFF, .lenient = TRUE};
    g_autoptr(GError) error = NULL;

    g_assert_false(cbus_audit_options_parse("syslog", NULL, &options, &error));
    g_assert_nonnull(strstr(error->message, "syslog"));
    g_clear_error(&error);
    g_assert_false(cbus_audit_options_parse("journal", "maybe", &options, &error));
    g_assert_nonnull(strstr(error->message, "maybe"));
    g_assert_cmpint(options.target, ==, CBUS_AUDIT_OFF);
    g_clear_error(&error);
    g_assert_true(cbus_audit_options_parse("journal", NULL, &options, &error));
    g_assert_cmpint(options.target, ==, CBUS_AUDIT_JOURNAL);
    g_assert_false(options.lenient);
    g_assert_true(cbus_audit_options_parse("stderr", "ignore", &options, &error));
    g_assert_cmpint(options.target, ==, CBUS_AUDIT_STDERR);
    g_assert_true(options.lenient);
}

int
main(int argc, char **argv)
{
    static int lenient;

    g_test_init(&argc, &argv, NULL);
#define ADD(name, data, func) g_test_add("/audit/" name, Fixture, data, set_up, func, tear_down)
    ADD("who-what-and-verdict-but-no-arguments", NULL, test_fields);
    ADD("the-gateway-is-a-caller-of-its-own", NULL, test_gateway);
    ADD("plain-reads-are-not-recorded", NULL, test_plain_reads);
    ADD("repeats-become-a-count-within-the-second", NULL, test_repeats);
    ADD("counts-are-written-when-the-channel-ends", NULL, test_end_writes_counts);
    ADD("channels-are-told-apart", NULL, test_other_trail);
    ADD("a-reason-forges-no-field", NULL, test_denied);
    ADD("long-paths-are-cut", NULL, test_long_path);
    ADD("a-full-journal-denies", NULL, test_full_journal_denies);
    ADD("a-lenient-audit-counts-what-is-missing", &lenient, test_lenient);
    ADD("no-journal-denies", NULL, test_no_journal_denies);
    ADD("every-event-of-many-is-accounted-for", &lenient, test_every_event_is_accounted_for);
    g_test_add_func("/audit/lines-on-stderr", test_stderr);
    g_test_add_func("/audit/settings", test_options);
    return g_test_run();
}
