/* A mirror between a front and a link that are not there: what it says to either is kept for the test to
 * look at, as GDBus reads it. */
#pragma once
#include "proxy/mirror.h"
#include <gio/gio.h>

typedef struct {
    guint32 id;
    GPtrArray *sent;  /* of GDBusMessage, in order */
    guint64 departed; /* G_MAXUINT64: all */
    guint32 uid;      /* as claimed in OPEN */
    gboolean full, closed;
} FakeChannel;

struct _CbusFront {
    GByteArray *building;
    GQueue out; /* of GDBusMessage */
    guint32 serial;
    gsize pending, growth; /* bytes that wait for the bus, and by how much each message adds to them */
    gsize message_max;
    guint32 uid; /* whose calls these are */
};

typedef struct {
    guint32 channel, id;
    char *destination;
} FakeTree;

struct _CbusLink {
    GPtrArray *channels; /* of FakeChannel, closed ones too */
    GQueue trees;        /* of FakeTree */
    gsize queued;        /* bytes that the first channel claims to hold */
    gboolean busy, over;
};

typedef struct {
    GMainContext *context;
    CbusLoop loop;
    CbusFront front;
    CbusLink link;
    CbusNodeStore *store;
    CbusMirror *mirror;
    CbusKey machine;
    char *root; /* "/ie/bmcgee/CBus/<nkey>" */
    guint services_changed, signals_lost_changed, bus_changed;
    char *bus_error; /* as last told */
    guint32 next_serial;
    gint64 now; /* the mirror's clock, µs; begins at 1 s */
} Fake;

Fake *fake_new(void); /* no link yet */
void fake_free(Fake *fake);
void fake_pass(Fake *fake, guint seconds); /* time goes by, then the roster's tick comes */
void fake_up(Fake *fake);                  /* a link, all of whose messages depart at once */
/* Answers Hello, AddMatch, ListNames, ListActivatableNames and every GetNameOwner of channel INDEX. NAMES:
 * "name=:1.5" pairs; ACTIVATABLE: names. NULL-terminated. */
void fake_settle(Fake *fake, guint index, const char *const *names, const char *const *activatable);
FakeChannel *fake_channel(Fake *fake, guint index);
guint fake_open_channels(Fake *fake);
GDBusMessage *fake_last_sent(FakeChannel *channel);
/* The last message sent over channel INDEX, borrowed. */
GDBusMessage *fake_last(Fake *fake, guint index);

/* A call of SENDER below the machine: SERVICE's remote PATH. BODY: floating or NULL. */
GDBusMessage *fake_message(Fake *fake, const char *service, const char *path, const char *member,
                           GVariant *body);
/* Hands CALL (consumed) to the mirror as from SENDER. Returns its serial. */
guint32 fake_call(Fake *fake, const char *sender, GDBusMessage *call);
guint32 fake_ping(Fake *fake, const char *sender, const char *service);
guint32 fake_introspect(Fake *fake, const char *sender, const char *service, const char *path);

/* The remote sends MESSAGE (consumed) over channel INDEX. */
void fake_receive(Fake *fake, guint index, GDBusMessage *message);
/* … a reply to the last call sent over it. */
void fake_reply(Fake *fake, guint index, GDBusMessage *call, GVariant *body);
void fake_reply_error(Fake *fake, guint index, GDBusMessage *call, const char *name);
void fake_signal(Fake *fake, const char *sender, const char *path, const char *interface, const char *member,
                 GVariant *body);
void fake_owner_changed(Fake *fake, const char *name, const char *before, const char *after);
/* Answers the oldest TREE with one object or an error. */
void fake_tree(Fake *fake, const char *path, const char *xml, const char *error_name);

/* What the mirror said on the session bus next; NULL: nothing. (transfer full) */
GDBusMessage *fake_take(Fake *fake);
void fake_assert_silent(Fake *fake);
/* The next message is an error NAME in answer to SERIAL whose text holds HINT. */
void fake_assert_error(Fake *fake, guint32 serial, const char *name, const char *hint);
/* The next message is a reply to SERIAL with BODY as text. */
void fake_assert_reply(Fake *fake, guint32 serial, const char *body);
/* … whose XML holds HINT. */
void fake_assert_xml(Fake *fake, guint32 serial, const char *hint, gboolean holds);
