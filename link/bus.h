/* A raw D-Bus connection: whole messages out, bytes in (design, "Hot path").
 *
 * Owns a non-blocking socket in the loop's poller. As a client it authenticates (SASL EXTERNAL; no
 * NEGOTIATE_UNIX_FD); as a server it lets its owner and root in; with CBUS_BUS_NO_AUTH neither is done (the
 * in-process socketpair). Reads until EAGAIN, frames, and hands each whole message over in place. What is
 * sent gathers and is written at the end of the turn. Loop thread only. */
#pragma once
#include "link/loop.h"
#include "wire/message.h"

typedef struct _CbusBus CbusBus;

typedef enum {
    CBUS_BUS_CLIENT, /* we authenticate to a bus */
    /* The same, and asks for messages that hold descriptors, which are dropped: UNIX_FDS says that they were
     * there. Else a bus drops such a reply, and its caller waits for ever. */
    CBUS_BUS_CLIENT_FDS,
    CBUS_BUS_SERVER,  /* the other end authenticates to us, within 5 s */
    CBUS_BUS_NO_AUTH, /* the other end is trusted and speaks messages at once */
} CbusBusMode;

typedef enum {
    CBUS_BUS_ERROR_AUTH,    /* the bus refused us, or we the client */
    CBUS_BUS_ERROR_CLOSED,  /* the other end closed, or the socket failed */
    CBUS_BUS_ERROR_INVALID, /* the other end sent what is no message */
    CBUS_BUS_ERROR_LIMIT,   /* our own queue to it outgrew its quota */
    CBUS_BUS_ERROR_ADDRESS, /* an address that can not be used */
} CbusBusError;
#define CBUS_BUS_ERROR (cbus_bus_error_quark())
GQuark cbus_bus_error_quark(void);

typedef struct {
    /* Authentication is done (client and server mode; never called otherwise). */
    void (*ready)(CbusBus *bus, gpointer user_data);
    /* One whole message, framed but not viewed; borrowed until return. */
    void (*message)(CbusBus *bus, const guint8 *message, gsize size, gpointer user_data);
    /* The connection is over (once; not after cbus_bus_free). The bus may be freed here. */
    void (*closed)(CbusBus *bus, const GError *reason, gpointer user_data);
} CbusBusHandler;

/* Takes FD (made non-blocking). LIMIT: largest message accepted. QUOTA: bytes that may wait to be written.
 * UID: of a client, what SASL EXTERNAL claims: the uid under which FD was connected; of a server, who may
 * authenticate beside root. A client may send messages at once: they follow the authentication; a server's
 * have to wait for ready(). */
CbusBus *cbus_bus_new(CbusLoop *loop, int fd, CbusBusMode mode, guint32 uid, gsize limit, gsize quota,
                      const CbusBusHandler *handler, gpointer user_data,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Safe in any handler. Closes the socket; what was not written is lost. */
void cbus_bus_free(CbusBus *bus);
/* As cbus_bus_free, after writing what the kernel takes at once. */
void cbus_bus_finish(CbusBus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CbusBus, cbus_bus_free)

/* Appends to the outgoing buffer. Over quota: the connection closes (from the turn's end, never from inside
 * this call). */
void cbus_bus_send(CbusBus *bus, const guint8 *message, gsize size);
/* The outgoing buffer itself, to build a message in place: begin, append with the wire/message.h functions,
 * then end (which checks the quota). No other call on BUS between the two. */
GByteArray *cbus_bus_begin(CbusBus *bus);
void cbus_bus_end(CbusBus *bus);
guint32 cbus_bus_peer(const CbusBus *bus);  /* server: the uid at the other end */
gsize cbus_bus_pending(const CbusBus *bus); /* bytes not yet written */
/* Stops and resumes reading (never used to stop the session bus for one slow machine). */
void cbus_bus_set_reading(CbusBus *bus, gboolean reading);

/* Connects, without blocking, to a D-Bus address list of unix:path=/unix:abstract= entries, or "session" /
 * "system" (environment first, then the well-known sockets). Returns a descriptor or −1 with ERROR naming the
 * address: G_IO_ERROR_WOULD_BLOCK when the bus has too many connections waiting just now. */
int cbus_bus_connect(const char *address, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* TRUE if an entry of ADDRESS (as above) is the system bus, however it is written. Blocks on the file system.
 */
gboolean cbus_bus_is_system(const char *address);
