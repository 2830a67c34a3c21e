/* The census: AddMatch for NameOwnerChanged, ListNames, then GetNameOwner for each name.
 *
 * The bus answers a connection's calls and sends its signals in one order. The match comes first, so that a
 * change while we ask arrives as a signal, before or after the answer that it makes old or that knows it
 * already: whatever comes last is true. The owner of this census takes the signals.
 *
 * Sixty-four calls at once, so that neither side queues much; a name without an owner by now is no fault. The
 * number of names is bounded (agent/names.h).
 *
 * Trust: the bus, to tell the truth; its answers are checked for their types. Loop thread only. */
#include "agent/census.h"
#include "wire/body.h"

#define DRIVER "org.freedesktop.DBus"
#define AHEAD  64

enum {
    SERIAL_MATCH = CBUS_CENSUS_SERIAL,
    SERIAL_LIST,
    SERIAL_OWNER, /* and one more for each name */
};

struct _CbusCensus {
    CbusNames *names;
    CbusCensusAsk ask;
    gpointer user_data;
    GPtrArray *unknown; /* char *: names whose owner is asked for */
    guint asked, answered;
    GByteArray *out;
};

CbusCensus *
cbus_census_new(CbusNames *names, CbusCensusAsk ask, gpointer user_data)
{
    CbusCensus *self = g_new0(CbusCensus, 1);

    self->names = names;
    self->ask = ask;
    self->user_data = user_data;
    self->unknown = g_ptr_array_new_with_free_func(g_free);
    self->out = g_byte_array_new();
    return self;
}

void
cbus_census_free(CbusCensus *self)
{
    g_ptr_array_unref(self->unknown);
    g_byte_array_unref(self->out);
    g_free(self);
}

/* ARGUMENT NULL: none. */
static void
call(CbusCensus *self, guint32 serial, const char *member, const char *argument)
{
    const CbusHeader header = {.type = CBUS_MESSAGE_CALL,
                               .serial = serial,
                               .path = CBUS_SPAN_LITERAL("/org/freedesktop/DBus"),
                               .interface = CBUS_SPAN_LITERAL(DRIVER),
                               .member = cbus_span(member),
                               .destination = CBUS_SPAN_LITERAL(DRIVER)};

    g_byte_array_set_size(self->out, 0);
    cbus_message_append(self->out, &header, argument != NULL ? "s" : "", argument);
    self->ask(self->out->data, self->out->len, self->user_data);
}

void
cbus_census_start(CbusCensus *self)
{
    call(self, SERIAL_MATCH, "AddMatch", CBUS_CENSUS_MATCH);
    call(self, SERIAL_LIST, "ListNames", NULL);
}

static CbusCensusState
ask_owners(CbusCensus *self)
{
    while (self->asked < self->unknown->len && self->asked - self->answered < AHEAD) {
        guint n = self->asked++;
        call(self, SERIAL_OWNER + n, "GetNameOwner", g_ptr_array_index(self->unknown, n));
    }
    return self->answered == self->unknown->len ? CBUS_CENSUS_DONE : CBUS_CENSUS_RUNS;
}

static CbusCensusState
take_list(CbusCensus *self, const CbusMessage *reply)
{
    CbusCursor cursor = cbus_cursor(reply);
    CbusSpan name;
    gsize end;

    if (reply->type != CBUS_MESSAGE_RETURN || !cbus_span_is(reply->signature, "as") ||
        !cbus_cursor_array(&cursor, 4, &end))
        return CBUS_CENSUS_FAILED;
    while (cursor.at < end && cbus_cursor_string(&cursor, &name))
        if (name.len > 0 && name.text[0] != ':' && !cbus_span_is(name, DRIVER))
            g_ptr_array_add(self->unknown, g_strndup(name.text, name.len));
    return self->unknown->len <= CBUS_NAMES_MAX ? ask_owners(self) : CBUS_CENSUS_FAILED;
}

static CbusCensusState
take_owner(CbusCensus *self, const CbusMessage *reply)
{
    CbusCursor cursor = cbus_cursor(reply);
    guint n = reply->reply_serial - SERIAL_OWNER;
    CbusSpan owner;

    if (n >= self->asked)
        return CBUS_CENSUS_FAILED;
    self->answered++;
    if (reply->type == CBUS_MESSAGE_RETURN && cbus_span_is(reply->signature, "s") &&
        cbus_cursor_string(&cursor, &owner) &&
        !cbus_names_set_owner(self->names, cbus_span(g_ptr_array_index(self->unknown, n)), owner))
        return CBUS_CENSUS_FAILED;
    return ask_owners(self);
}

CbusCensusState
cbus_census_take(CbusCensus *self, const CbusMessage *reply)
{
    if (!cbus_span_is(reply->sender, DRIVER))
        return CBUS_CENSUS_RUNS;
    if (reply->reply_serial == SERIAL_LIST)
        return take_list(self, reply);
    if (reply->reply_serial != SERIAL_MATCH)
        return take_owner(self, reply);
    return reply->type == CBUS_MESSAGE_RETURN ? CBUS_CENSUS_RUNS : CBUS_CENSUS_FAILED;
}
