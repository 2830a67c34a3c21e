/* What a raw bus connection promises to its user when the other end is honest, slow, or hostile. The other
 * end is a socketpair that the test drives by hand. */
#include "link/bus.h"
#include <fcntl.h>
#include <gio/gio.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIMIT (32 * 1024 * 1024)
#define QUOTA (1024 * 1024)

typedef struct {
    CbusLoop loop;
    CbusBus *bus;
    int peer;
    GPtrArray *messages; /* GBytes */
    guint ready, closed;
    GError *reason;
    enum { KEEP, FREE, PAUSE } on_message;
} Fixture;

static void
on_ready(CbusBus *bus, gpointer user_data)
{
    ((Fixture *)user_data)->ready++;
}

static void
on_message(CbusBus *bus, const guint8 *message, gsize size, gpointer user_data)
{
    Fixture *fixture = user_data;

    g_ptr_array_add(fixture->messages, g_bytes_new(message, size));
    if (fixture->on_message == FREE)
        g_clear_pointer(&fixture->bus, cbus_bus_free);
    else if (fixture->on_message == PAUSE)
        cbus_bus_set_reading(bus, FALSE);
}

static void
on_closed(CbusBus *bus, const GError *reason, gpointer user_data)
{
    Fixture *fixture = user_data;

    fixture->closed++;
    g_clear_error(&fixture->reason);
    fixture->reason = g_error_copy(reason);
    if (fixture->on_message == FREE)
        g_clear_pointer(&fixture->bus, cbus_bus_free);
}

static const CbusBusHandler handler = {.ready = on_ready, .message = on_message, .closed = on_closed};

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    CbusBusMode mode = GPOINTER_TO_UINT(data);
    int pair[2];

    fixture->loop.turn = cbus_turn_new(NULL);
    fixture->loop.poller = cbus_poller_new(NULL, fixture->loop.turn, &error);
    g_assert_no_error(error);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    fixture->peer = pair[1];
    g_assert_cmpint(fcntl(fixture->peer, F_SETFL, O_NONBLOCK), ==, 0);
    fixture->messages = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    fixture->bus = cbus_bus_new(&fixture->loop, pair[0], mode, 1000, LIMIT, QUOTA, &handler, fixture, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    cbus_bus_free(fixture->bus);
    if (fixture->peer >= 0)
        close(fixture->peer);
    cbus_poller_free(fixture->loop.poller);
    cbus_turn_free(fixture->loop.turn);
    g_ptr_array_unref(fixture->messages);
    g_clear_error(&fixture->reason);
}

/* Turns until nothing is ready. */
static void
settle(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

static GBytes *
make_message(guint32 serial, gsize payload)
{
    g_autoptr(GDBusMessage) message = g_dbus_message_new_signal("/a", "b.c", "D");
    g_autofree guint8 *bytes = g_malloc0(payload);
    gsize size;
    guchar *blob;

    g_dbus_message_set_serial(message, serial);
    g_dbus_message_set_body(
        message, g_variant_new("(@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, bytes, payload, 1)));
    blob = g_dbus_message_to_blob(message, &size, G_DBUS_CAPABILITY_FLAGS_NONE, NULL);
    return g_bytes_new_take(blob, size);
}

/* Writes as much as goes, with turns between. */
static void
feed(Fixture *fixture, const void *data, gsize len)
{
    const char *p = data;

    while (len > 0) {
        gssize n = send(fixture->peer, p, len, MSG_NOSIGNAL);

        if (n > 0) {
            p += n;
            len -= n;
        } else {
            g_assert_cmpint(errno, ==, EAGAIN);
        }
        settle();
    }
}

static void
feed_text(Fixture *fixture, const char *text)
{
    feed(fixture, text, strlen(text));
}

static GString *
drain(Fixture *fixture)
{
    GString *text = g_string_new(NULL);
    char buffer[65536];
    gssize n;

    settle();
    while ((n = read(fixture->peer, buffer, sizeof buffer)) > 0) {
        g_string_append_len(text, buffer, n);
        settle();
    }
    return text;
}

static void
assert_closed(Fixture *fixture, CbusBusError code)
{
    settle();
    g_assert_cmpuint(fixture->closed, ==, 1);
    g_assert_error(fixture->reason, CBUS_BUS_ERROR, (int)code);
    settle();
    g_assert_cmpuint(fixture->closed, ==, 1);
}

static void
test_frames_whatever_the_pieces(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GByteArray) stream = g_byte_array_new();
    g_autoptr(GPtrArray) expected = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);

    for (guint i = 0; i < 40; i++) {
        GBytes *message = make_message(i + 1, i * 7);

        g_ptr_array_add(expected, message);
        g_byte_array_append(stream, g_bytes_get_data(message, NULL), g_bytes_get_size(message));
    }
    for (gsize piece = 1; piece < 400; piece = piece * 3 + 1) {
        g_ptr_array_set_size(fixture->messages, 0);
        for (gsize at = 0; at < stream->len; at += piece)
            feed(fixture, stream->data + at, MIN(piece, stream->len - at));
        g_assert_cmpuint(fixture->messages->len, ==, expected->len);
        for (guint i = 0; i < expected->len; i++)
            g_assert_true(g_bytes_equal(fixture->messages->pdata[i], expected->pdata[i]));
    }
}

static void
test_large_message_arrives_whole(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GBytes) small = make_message(1, 3);
    g_autoptr(GBytes) large = make_message(2, 5 * 1000 * 1000);

    feed(fixture, g_bytes_get_data(small, NULL), g_bytes_get_size(small));
    feed(fixture, g_bytes_get_data(large, NULL), g_bytes_get_size(large));
    feed(fixture, g_bytes_get_data(small, NULL), g_bytes_get_size(small));
    g_assert_cmpuint(fixture->messages->len, ==, 3);
    g_assert_true(g_bytes_equal(fixture->messages->pdata[1], large));
    g_assert_true(g_bytes_equal(fixture->messages->pdata[2], small));
}

static void
test_garbage_closes(Fixture *fixture, gconstpointer data)
{
    feed_text(fixture, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_closed(fixture, CBUS_BUS_ERROR_INVALID);
}

static void
test_over_limit_closes(Fixture *fixture, gconstpointer data)
{
    static const guint8 huge[16] = {'l', 4, 0, 1, 0, 0, 0, 4, 1, 0, 0, 0, 8, 0, 0, 0};

    feed(fixture, huge, sizeof huge);
    assert_closed(fixture, CBUS_BUS_ERROR_INVALID);
}

static void
test_peer_closes(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GBytes) message = make_message(1, 100);

    feed(fixture, g_bytes_get_data(message, NULL), 50);
    close(fixture->peer);
    fixture->peer = -1;
    assert_closed(fixture, CBUS_BUS_ERROR_CLOSED);
    cbus_bus_send(fixture->bus, g_bytes_get_data(message, NULL), g_bytes_get_size(message));
    cbus_bus_set_reading(fixture->bus, FALSE);
    settle();
}

static void
test_messages_before_the_close_are_delivered(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GBytes) message = make_message(1, 10);

    g_assert_cmpint(write(fixture->peer, g_bytes_get_data(message, NULL), g_bytes_get_size(message)), >, 0);
    close(fixture->peer);
    fixture->peer = -1;
    assert_closed(fixture, CBUS_BUS_ERROR_CLOSED);
    g_assert_cmpuint(fixture->messages->len, ==, 1);
}

static void
test_free_in_message(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GBytes) message = make_message(1, 10);
    g_autoptr(GByteArray) two = g_byte_array_new();

    fixture->on_message = FREE;
    g_byte_array_append(two, g_bytes_get_data(message, NULL), g_bytes_get_size(message));
    g_byte_array_append(two, g_bytes_get_data(message, NULL), g_bytes_get_size(message));
    feed(fixture, two->data, two->len);
    g_assert_null(fixture->bus);
    g_assert_cmpuint(fixture->messages->len, ==, 1);
    g_assert_cmpuint(fixture->closed, ==, 0);
}

static void
test_free_in_closed(Fixture *fixture, gconstpointer data)
{
    fixture->on_message = FREE;
    feed_text(fixture, "no D-Bus message at all");
    g_assert_cmpuint(fixture->closed, ==, 1);
    g_assert_null(fixture->bus);
}

static void
test_paused_reading_loses_nothing(Fixture *fixture, gconstpointer data)
{
    fixture->on_message = PAUSE;
    for (guint i = 0; i < 4; i++) {
        g_autoptr(GBytes) message = make_message(i + 1, 100);

        feed(fixture, g_bytes_get_data(message, NULL), g_bytes_get_size(message));
    }
    for (guint i = 1; i <= 4; i++) {
        g_assert_cmpuint(fixture->messages->len, ==, i);
        cbus_bus_set_reading(fixture->bus, TRUE);
        g_assert_cmpuint(fixture->messages->len, ==, i);
        settle();
    }
    g_assert_cmpuint(fixture->messages->len, ==, 4);
}

static void
test_paused_on_a_dead_peer_does_not_spin(Fixture *fixture, gconstpointer data)
{
    cbus_bus_set_reading(fixture->bus, FALSE);
    close(fixture->peer);
    fixture->peer = -1;
    g_assert_false(g_main_context_iteration(NULL, FALSE));
    cbus_bus_set_reading(fixture->bus, TRUE);
    assert_closed(fixture, CBUS_BUS_ERROR_CLOSED);
}

static void
test_sent_leaves_in_order(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GString) expected = g_string_new(NULL);
    g_autoptr(GString) received = NULL;

    for (guint i = 0; i < 300; i++) {
        g_autoptr(GBytes) message = make_message(i + 1, 3000);
        const guint8 *bytes = g_bytes_get_data(message, NULL);

        g_string_append_len(expected, (const char *)bytes, g_bytes_get_size(message));
        if (i % 2 == 0) {
            cbus_bus_send(fixture->bus, bytes, g_bytes_get_size(message));
        } else {
            g_byte_array_append(cbus_bus_begin(fixture->bus), bytes, g_bytes_get_size(message));
            cbus_bus_end(fixture->bus);
        }
    }
    g_assert_cmpuint(cbus_bus_pending(fixture->bus), ==, expected->len);
    received = drain(fixture);
    g_assert_true(g_string_equal(received, expected));
    g_assert_cmpuint(cbus_bus_pending(fixture->bus), ==, 0);
}

static void
test_quota_closes_at_the_end_of_the_turn(Fixture *fixture, gconstpointer data)
{
    g_autofree guint8 *bytes = g_malloc0(QUOTA);

    cbus_bus_send(fixture->bus, bytes, QUOTA);
    cbus_bus_send(fixture->bus, bytes, 1);
    g_assert_cmpuint(fixture->closed, ==, 0);
    assert_closed(fixture, CBUS_BUS_ERROR_LIMIT);
}

static void
test_quota_counts_what_is_built_in_place(Fixture *fixture, gconstpointer data)
{
    g_autofree guint8 *bytes = g_malloc0(QUOTA);

    cbus_bus_send(fixture->bus, bytes, QUOTA);
    g_byte_array_append(cbus_bus_begin(fixture->bus), bytes, 1);
    cbus_bus_end(fixture->bus);
    g_assert_cmpuint(fixture->closed, ==, 0);
    assert_closed(fixture, CBUS_BUS_ERROR_LIMIT);
}

static void
assert_sent(Fixture *fixture, const char *expected, gsize len)
{
    g_autoptr(GString) text = drain(fixture);

    g_assert_cmpmem(text->str, text->len, expected, len);
}

static void
test_authenticates(Fixture *fixture, gconstpointer data)
{
    static const char auth[] = "\0AUTH EXTERNAL 31303030\r\nBEGIN\r\nqueued";

    cbus_bus_send(fixture->bus, (const guint8 *)"queued", 6);
    assert_sent(fixture, auth, sizeof auth - 1);
    feed_text(fixture, "OK 0123456789abcdef01234");
    g_assert_cmpuint(fixture->ready, ==, 0);
    feed_text(fixture, "56789abcdef\r\n");
    g_assert_cmpuint(fixture->ready, ==, 1);
}

/* Whether the bus agrees or not: what matters is that it was asked. */
static void
test_asks_for_descriptors_and_drops_them(Fixture *fixture, gconstpointer data)
{
    static const char auth[] = "\0AUTH EXTERNAL 31303030\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
    static const char *const answers[] = {"AGREE_UNIX_FD\r\n", "ERROR \"no\"\r\n"};
    g_autoptr(GBytes) signal = make_message(1, 10);
    gsize size;
    struct iovec part = {(gpointer)g_bytes_get_data(signal, &size), g_bytes_get_size(signal)};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    int pipes[2];

    assert_sent(fixture, auth, sizeof auth - 1);
    feed_text(fixture, "OK 0123456789abcdef0123456789abcdef\r\n");
    g_assert_cmpuint(fixture->ready, ==, 0);
    feed_text(fixture, answers[g_test_rand_int_range(0, 2)]);
    g_assert_cmpuint(fixture->ready, ==, 1);

    g_assert_cmpint(pipe(pipes), ==, 0);
    *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(rights), &pipes[1], sizeof(int));
    g_assert_cmpint(sendmsg(fixture->peer, &message, 0), ==, part.iov_len);
    close(pipes[1]);
    settle();
    g_assert_cmpuint(fixture->messages->len, ==, 1);
    g_assert_cmpint(read(pipes[0], control.bytes, 1), ==, 0); /* nobody holds the other end */
    close(pipes[0]);
}

static void
test_rejected(Fixture *fixture, gconstpointer data)
{
    feed_text(fixture, "REJECTED EXTERNAL\r\n");
    assert_closed(fixture, CBUS_BUS_ERROR_AUTH);
    g_assert_nonnull(g_strstr_len(fixture->reason->message, -1, "REJECTED EXTERNAL"));
    g_assert_cmpuint(fixture->ready, ==, 0);
}

static void
refuses_first(Fixture *fixture, const char *answer)
{
    feed_text(fixture, answer);
    assert_closed(fixture, CBUS_BUS_ERROR_AUTH);
    g_assert_nonnull(g_strstr_len(fixture->reason->message, -1, "where OK or REJECTED belongs"));
    g_assert_cmpuint(fixture->ready, ==, 0);
}

static void
test_agreeing_lets_nobody_in(Fixture *fixture, gconstpointer data)
{
    refuses_first(fixture, "AGREE_UNIX_FD\r\n");
}

static void
test_an_error_lets_nobody_in(Fixture *fixture, gconstpointer data)
{
    refuses_first(fixture, "ERROR \"no\"\r\n");
}

static void
test_one_ok_is_enough(Fixture *fixture, gconstpointer data)
{
    feed_text(fixture, "OK 0123456789abcdef0123456789abcdef\r\nOK 0123456789abcdef0123456789abcdef\r\n");
    assert_closed(fixture, CBUS_BUS_ERROR_AUTH);
    g_assert_nonnull(g_strstr_len(fixture->reason->message, -1, "where AGREE_UNIX_FD or ERROR belongs"));
    g_assert_cmpuint(fixture->ready, ==, 0);
}

static void
test_no_server(Fixture *fixture, gconstpointer data)
{
    g_autofree char *line = g_strnfill(600, 'x');

    feed_text(fixture, line);
    assert_closed(fixture, CBUS_BUS_ERROR_AUTH);
}

static void
test_closed_in_authentication(Fixture *fixture, gconstpointer data)
{
    settle();
    close(fixture->peer);
    fixture->peer = -1;
    settle();
    g_assert_cmpuint(fixture->closed, ==, 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(mode, name, func)                                                                                \
    g_test_add("/bus/" name, Fixture, GUINT_TO_POINTER(mode), set_up, func, tear_down)
    ADD(CBUS_BUS_NO_AUTH, "frames-whatever-the-pieces", test_frames_whatever_the_pieces);
    ADD(CBUS_BUS_NO_AUTH, "large-message-arrives-whole", test_large_message_arrives_whole);
    ADD(CBUS_BUS_NO_AUTH, "garbage-closes", test_garbage_closes);
    ADD(CBUS_BUS_NO_AUTH, "over-limit-closes", test_over_limit_closes);
    ADD(CBUS_BUS_NO_AUTH, "peer-closes", test_peer_closes);
    ADD(CBUS_BUS_NO_AUTH, "messages-before-the-close-are-delivered",
        test_messages_before_the_close_are_delivered);
    ADD(CBUS_BUS_NO_AUTH, "free-in-message", test_free_in_message);
    ADD(CBUS_BUS_NO_AUTH, "free-in-closed", test_free_in_closed);
    ADD(CBUS_BUS_NO_AUTH, "paused-reading-loses-nothing", test_paused_reading_loses_nothing);
    ADD(CBUS_BUS_NO_AUTH, "paused-on-a-dead-peer-does-not-spin", test_paused_on_a_dead_peer_does_not_spin);
    ADD(CBUS_BUS_NO_AUTH, "sent-leaves-in-order", test_sent_leaves_in_order);
    ADD(CBUS_BUS_NO_AUTH, "quota-closes-at-the-end-of-the-turn", test_quota_closes_at_the_end_of_the_turn);
    ADD(CBUS_BUS_NO_AUTH, "quota-counts-what-is-built-in-place", test_quota_counts_what_is_built_in_place);
    ADD(CBUS_BUS_CLIENT, "authenticates-before-messages", test_authenticates);
    ADD(CBUS_BUS_CLIENT_FDS, "asks-for-descriptors-and-drops-them", test_asks_for_descriptors_and_drops_them);
    ADD(CBUS_BUS_CLIENT, "rejected-says-so", test_rejected);
    ADD(CBUS_BUS_CLIENT_FDS, "agreeing-lets-nobody-in", test_agreeing_lets_nobody_in);
    ADD(CBUS_BUS_CLIENT_FDS, "an-error-lets-nobody-in", test_an_error_lets_nobody_in);
    ADD(CBUS_BUS_CLIENT_FDS, "one-ok-is-enough", test_one_ok_is_enough);
    ADD(CBUS_BUS_CLIENT, "no-server-is-noticed", test_no_server);
    ADD(CBUS_BUS_CLIENT, "closed-in-authentication", test_closed_in_authentication);
    return g_test_run();
}
