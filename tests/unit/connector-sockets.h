/* The connector's sockets in a test's own hands, instead of a client's. Included by each test program once.
 */
#pragma once
#include "connector-fixture.h"
#include <sys/socket.h>
#include <sys/un.h>

/* Something that takes connections, as a bus does. */
static int
listen_as_bus(Fixture *fixture)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, fixture->socket, sizeof address.sun_path);
    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, sizeof address), ==, 0);
    g_assert_cmpint(g_chmod(fixture->socket, 0666), ==, 0);
    g_assert_cmpint(listen(listener, 64), ==, 0);
    return listener;
}

/* Anew; CONFIG NULL: without a configuration. */
static void
start_connector(Fixture *fixture, const char *config)
{
    const CbusConnectorOptions options = {.key_file = fixture->key_file,
                                          .authorized_keys = fixture->keys_file,
                                          .config = config,
                                          .bus = fixture->address};
    g_autoptr(GError) error = NULL;

    g_assert_true(cbus_connector_start(&options, &fixture->ends, &error));
    g_assert_no_error(error);
}

static void
end_connector(Fixture *fixture)
{
    close(fixture->ends.requests);
    close(fixture->ends.nonces);
    end_process(&fixture->ends.pid);
}

/* Waits for the answer to ID, past whatever is told unasked. FALSE: the connector ended. */
static gboolean
receive_answer(int socket, guint32 id, CbusDatagram *in)
{
    do
        if (cbus_datagram_receive(socket, in, 0, NULL) != 1)
            return FALSE;
    while (in->type >= CBUS_DATAGRAM_KEY || in->id != id);
    return TRUE;
}
