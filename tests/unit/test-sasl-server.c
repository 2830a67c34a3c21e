/* What the server's side of SASL promises: clients as they really talk are let in, all else is not, and
 * nobody can talk for ever. At the end the same through a raw bus connection, where time is bounded too. */
#include "link/bus.h"
#include "link/sasl_server.h"
#include <gio/gio.h>
#include <sys/socket.h>
#include <unistd.h>

#define OWNER    1000
#define UID_1000 "31303030"
#define UID_1001 "31303031"

typedef struct {
    GString *said;
    gsize left; /* bytes behind BEGIN */
    gboolean done;
    GError *error;
} Talk;

static void
talk_clear(Talk *talk)
{
    g_string_free(talk->said, TRUE);
    g_clear_error(&talk->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Talk, talk_clear)

/* Hands SCRIPT over STEP bytes at a time, as a socket might. */
static Talk
talk_in_steps(guint32 peer, const char *script, gsize len, gsize step)
{
    g_autoptr(CbusSaslServer) server = cbus_sasl_server_new(peer, OWNER);
    g_autoptr(GByteArray) out = g_byte_array_new();
    Talk talk = {.left = len};
    gsize at = 0, there = 0;

    while (!talk.done && talk.error == NULL && (there < len || at < there)) {
        gssize used = 0;

        there = MIN(there + step, len);
        do {
            used = cbus_sasl_server_receive(server, (const guint8 *)script + at, there - at, out, &talk.done,
                                            &talk.error);
            at += (gsize)MAX(used, 0);
        } while (used > 0 && !talk.done);
        if (there == len)
            break;
    }
    talk.left = len - at;
    talk.said = g_string_new_len((const char *)out->data, out->len);
    return talk;
}

static Talk
talk(guint32 peer, const char *script, gsize len)
{
    return talk_in_steps(peer, script, len, len);
}

/* What was said, with the GUID cut out. */
static void
assert_said(const Talk *with, const char *expected)
{
    g_autoptr(GRegex) regex = g_regex_new("OK [0-9a-f]{32}\r\n", 0, 0, NULL);
    g_autofree char *said = g_regex_replace_literal(regex, with->said->str, -1, 0, "OK GUID\r\n", 0, NULL);

    g_assert_cmpstr(said, ==, expected);
}

#define TALK(peer, script) talk(peer, script, sizeof(script) - 1)

static void
test_a_client_that_waits_for_answers_is_let_in(void)
{
    g_auto(Talk) with = TALK(OWNER, "\0AUTH EXTERNAL " UID_1000 "\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\nl\1\0\1");

    g_assert_no_error(with.error);
    g_assert_true(with.done);
    g_assert_cmpuint(with.left, ==, 4);
    assert_said(&with, "OK GUID\r\nERROR \"file descriptors can not cross to another machine\"\r\n");
}

static void
test_sd_bus_says_all_at_once(void)
{
    static const char script[] = "\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\nl\1\0\1";

    for (gsize step = 1; step < sizeof script; step++) {
        g_auto(Talk) with = talk_in_steps(OWNER, script, sizeof script - 1, step);

        g_assert_no_error(with.error);
        g_assert_true(with.done);
        assert_said(&with,
                    "DATA\r\nOK GUID\r\nERROR \"file descriptors can not cross to another machine\"\r\n");
    }
}

static void
test_root_is_let_in_under_its_own_name(void)
{
    g_auto(Talk) root = TALK(0, "\0AUTH EXTERNAL 30\r\nBEGIN\r\n");
    g_auto(Talk) pretender = TALK(0, "\0AUTH EXTERNAL " UID_1000 "\r\n");

    g_assert_true(root.done);
    assert_said(&pretender, "REJECTED EXTERNAL\r\n");
}

static void
test_others_are_rejected_whatever_they_claim(void)
{
    g_auto(Talk) own = TALK(1001, "\0AUTH EXTERNAL " UID_1001 "\r\n");
    g_auto(Talk) owner = TALK(1001, "\0AUTH EXTERNAL " UID_1000 "\r\n");
    g_auto(Talk) nothing = TALK(1001, "\0AUTH EXTERNAL\r\nDATA\r\n");

    assert_said(&own, "REJECTED EXTERNAL\r\n");
    assert_said(&owner, "REJECTED EXTERNAL\r\n");
    assert_said(&nothing, "DATA\r\nREJECTED EXTERNAL\r\n");
}

static void
test_only_external_is_a_mechanism(void)
{
    g_auto(Talk) with = TALK(OWNER, "\0AUTH\r\nAUTH ANONYMOUS\r\nAUTH ANONYMOUS 6d65\r\n"
                                    "AUTH DBUS_COOKIE_SHA1 " UID_1000 "\r\nAUTH external\r\nAUTH \r\n"
                                    "AUTH EXTERNAL " UID_1000 "\r\nBEGIN\r\n");

    g_assert_true(with.done);
    assert_said(&with, "REJECTED EXTERNAL\r\nREJECTED EXTERNAL\r\nREJECTED EXTERNAL\r\nREJECTED EXTERNAL\r\n"
                       "REJECTED EXTERNAL\r\nREJECTED EXTERNAL\r\nOK GUID\r\n");
}

static void
test_a_claim_must_be_the_uid_in_hexadecimal(void)
{
    static const char *const claims[] = {"3130303",   "1000",       "313030300",  "3130303g",
                                         "31303030 ", "2031303030", "2b31303030", UID_1001};

    for (gsize i = 0; i < G_N_ELEMENTS(claims); i++) {
        g_autoptr(GString) script = g_string_new_len("\0", 1);
        g_string_append_printf(script, "AUTH EXTERNAL %s\r\nBEGIN\r\n", claims[i]);
        g_auto(Talk) with = talk(OWNER, script->str, script->len);

        assert_said(&with, "REJECTED EXTERNAL\r\n");
        g_assert_error(with.error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH);
    }
}

static void
test_a_client_may_cancel_and_begin_anew(void)
{
    g_auto(Talk) with = TALK(OWNER, "\0AUTH EXTERNAL\r\nCANCEL\r\nAUTH EXTERNAL " UID_1000
                                    "\r\nERROR \"no\"\r\nAUTH EXTERNAL\r\nDATA " UID_1000 "\r\nBEGIN\r\n");

    g_assert_true(with.done);
    assert_said(&with, "DATA\r\nREJECTED EXTERNAL\r\nOK GUID\r\nREJECTED EXTERNAL\r\nDATA\r\nOK GUID\r\n");
}

static void
test_unknown_and_misplaced_commands_are_errors(void)
{
    g_auto(Talk) with = TALK(OWNER, "\0NEGOTIATE_UNIX_FD\r\nDATA 30\r\nHELLO\r\n\r\nAUTH EXTERNAL " UID_1000
                                    "\r\nAUTH EXTERNAL\r\nBEGIN\r\n");

    g_assert_true(with.done);
    assert_said(&with,
                "ERROR \"unknown command\"\r\nERROR \"unknown command\"\r\nERROR \"unknown command\"\r\n"
                "ERROR \"unknown command\"\r\nOK GUID\r\nERROR \"unknown command\"\r\n");
}

static void
assert_cut_off(const char *script, gsize len)
{
    g_auto(Talk) with = talk(OWNER, script, len);

    g_assert_error(with.error, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH);
    g_assert_false(with.done);
}

static void
test_garbage_is_cut_off(void)
{
    g_autofree char *endless = g_strnfill(4096, 'A');
    g_autoptr(GString) chatter = g_string_new_len("\0", 1);
    g_autoptr(GString) stubborn = g_string_new_len("\0", 1);

    endless[0] = '\0';
    for (guint i = 0; i < 500; i++)
        g_string_append(chatter, "NEGOTIATE_UNIX_FD\r\n");
    for (guint i = 0; i < 20; i++)
        g_string_append(stubborn, "AUTH\r\n");
    assert_cut_off("AUTH EXTERNAL\r\n", 15);
    assert_cut_off("\0AUTH EXTERNAL\n", 15);
    assert_cut_off("\0\n", 2);
    assert_cut_off("\0BEGIN\r\n", 8);
    assert_cut_off("\0AUTH EXTERNAL\r\nBEGIN\r\n", 23);
    assert_cut_off(endless, 4096);
    assert_cut_off(chatter->str, chatter->len);
    assert_cut_off(stubborn->str, stubborn->len);
}

/* ---- through a connection ---- */

typedef struct {
    CbusLoop loop;
    CbusBus *bus;
    int peer;
    guint ready, messages;
    GError *reason;
} Served;

static void
on_ready(CbusBus *bus, gpointer user_data)
{
    ((Served *)user_data)->ready++;
}

static void
on_message(CbusBus *bus, const guint8 *message, gsize size, gpointer user_data)
{
    ((Served *)user_data)->messages++;
    cbus_bus_send(bus, message, size);
}

static void
on_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    ((Served *)user_data)->reason = g_error_copy(reason);
}

static void
serve(Served *served, gconstpointer owner)
{
    static const CbusBusHandler handler = {.ready = on_ready, .message = on_message, .closed = on_closed};
    g_autoptr(GError) error = NULL;
    int pair[2];

    served->loop.turn = cbus_turn_new(NULL);
    served->loop.poller = cbus_poller_new(NULL, served->loop.turn, &error);
    g_assert_no_error(error);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
    served->peer = pair[1];
    served->bus = cbus_bus_new(&served->loop, pair[0], CBUS_BUS_SERVER, getuid() + GPOINTER_TO_UINT(owner),
                               65536, 65536, &handler, served, &error);
    g_assert_no_error(error);
}

static void
stop_serving(Served *served, gconstpointer owner)
{
    cbus_bus_free(served->bus);
    close(served->peer);
    cbus_poller_free(served->loop.poller);
    cbus_turn_free(served->loop.turn);
    g_clear_error(&served->reason);
}

static GString *
client_script(void)
{
    static const guint8 message[16] = {'l', CBUS_MESSAGE_SIGNAL, 0, 1, 0, 0, 0, 0, 1};
    g_autofree char *uid = g_strdup_printf("%u", getuid());
    GString *script = g_string_new_len("\0AUTH EXTERNAL ", 15);

    for (const char *p = uid; *p != '\0'; p++)
        g_string_append_printf(script, "%02x", *p);
    g_string_append(script, "\r\nBEGIN\r\n");
    g_string_append_len(script, (const char *)message, sizeof message);
    return script;
}

static void
test_messages_behind_begin_are_delivered(Served *served, gconstpointer data)
{
    g_autoptr(GString) script = client_script();
    char answer[256];
    gssize n;

    g_assert_cmpint(send(served->peer, script->str, script->len, 0), ==, script->len);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(served->ready, ==, 1);
    g_assert_cmpuint(served->messages, ==, 1);
    g_assert_cmpuint(cbus_bus_peer(served->bus), ==, getuid());
    n = read(served->peer, answer, sizeof answer);
    g_assert_cmpint(n, ==, 37 + 16); /* OK and its GUID, then the echo */
    g_assert_cmpint(answer[37], ==, 'l');
}

static void
test_a_silent_client_is_cut_off(Served *served, gconstpointer data)
{
    gint64 began = g_get_monotonic_time();

    g_assert_cmpint(send(served->peer, "", 1, 0), ==, 1);
    while (served->reason == NULL)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(served->reason, CBUS_BUS_ERROR, CBUS_BUS_ERROR_AUTH);
    g_assert_cmpint(g_get_monotonic_time() - began, <, 8 * G_USEC_PER_SEC);
}

static void
test_what_was_sent_is_written_before_a_finish(Served *served, gconstpointer data)
{
    static const guint8 last[16] = {'l', CBUS_MESSAGE_SIGNAL, 0, 1, 0, 0, 0, 0, 2};
    g_autoptr(GString) script = client_script();
    char answer[256];

    g_assert_cmpint(send(served->peer, script->str, script->len, 0), ==, script->len);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    cbus_bus_send(served->bus, last, sizeof last);
    cbus_bus_finish(g_steal_pointer(&served->bus));
    g_assert_cmpint(read(served->peer, answer, sizeof answer), ==, 37 + 16 + 16);
    g_assert_cmpint(read(served->peer, answer, sizeof answer), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add_func("/sasl-server/" #name, test_##name)
    ADD(a_client_that_waits_for_answers_is_let_in);
    ADD(sd_bus_says_all_at_once);
    ADD(root_is_let_in_under_its_own_name);
    ADD(others_are_rejected_whatever_they_claim);
    ADD(only_external_is_a_mechanism);
    ADD(a_claim_must_be_the_uid_in_hexadecimal);
    ADD(a_client_may_cancel_and_begin_anew);
    ADD(unknown_and_misplaced_commands_are_errors);
    ADD(garbage_is_cut_off);
#define SERVE(name) g_test_add("/sasl-server/" #name, Served, NULL, serve, test_##name, stop_serving)
    SERVE(messages_behind_begin_are_delivered);
    SERVE(a_silent_client_is_cut_off);
    SERVE(what_was_sent_is_written_before_a_finish);
    return g_test_run();
}
