/* What the client is told instead of what the bus would have said.
 *
 * Such an answer has to look like the bus's own: its sender is the bus, its texts are dbus-daemon's where the
 * policy hides a name, since another text would tell that there is something to hide. Its serial is one that
 * no bus reaches.
 *
 * Trust: names in texts come from a message that was checked. Pure; any thread. */
#include "agent/filter_answer.h"
#include "wire/body.h"
#include "wire/key.h"

#define DRIVER "org.freedesktop.DBus"
#define SERIAL G_MAXUINT32

gboolean
cbus_facts_are_lookup(const CbusFacts *facts)
{
    return cbus_span_is(facts->destination, DRIVER);
}

CbusSpan
cbus_facts_name(const CbusFacts *facts)
{
    return cbus_facts_are_lookup(facts) ? facts->arguments[0] : facts->destination;
}

static gboolean
wants_answer(const CbusMessage *call)
{
    return call->type == CBUS_MESSAGE_CALL && (call->flags & CBUS_FLAG_NO_REPLY) == 0;
}

gboolean
cbus_filter_answer_error(GByteArray *out, const char *self, const CbusMessage *call, const char *name,
                         const char *text)
{
    const CbusHeader header = {.type = CBUS_MESSAGE_ERROR,
                               .flags = CBUS_FLAG_NO_REPLY,
                               .serial = SERIAL,
                               .reply_serial = call->serial,
                               .error_name = cbus_span(name),
                               .destination = cbus_span(self),
                               .sender = CBUS_SPAN_LITERAL(DRIVER)};

    if (!wants_answer(call))
        return FALSE;
    g_byte_array_set_size(out, 0);
    cbus_message_append(out, &header, "s", text);
    return TRUE;
}

static gboolean
answer_return(GByteArray *out, const char *self, const CbusMessage *call, const char *signature,
              const guint8 *body, gsize len)
{
    const CbusHeader header = {.endian = CBUS_ENDIAN_NATIVE,
                               .type = CBUS_MESSAGE_RETURN,
                               .flags = CBUS_FLAG_NO_REPLY,
                               .serial = SERIAL,
                               .reply_serial = call->serial,
                               .destination = cbus_span(self),
                               .sender = CBUS_SPAN_LITERAL(DRIVER),
                               .signature = cbus_span(signature)};

    if (!wants_answer(call))
        return FALSE;
    g_byte_array_set_size(out, 0);
    (void)cbus_header_append(out, &header, len);
    if (len > 0)
        g_byte_array_append(out, body, (guint)len);
    return TRUE;
}

gboolean
cbus_filter_answer_done(GByteArray *out, const char *self, const CbusMessage *call)
{
    return answer_return(out, self, call, "", NULL, 0);
}

gboolean
cbus_filter_answer_hidden(GByteArray *out, const char *self, const CbusMessage *call, const CbusFacts *facts)
{
    static const guint8 no[4];
    gboolean lookup = cbus_facts_are_lookup(facts);
    CbusSpan name = cbus_facts_name(facts);
    gboolean starts = lookup ? cbus_span_is(facts->member, "StartServiceByName")
                             : (facts->flags & CBUS_FLAG_NO_AUTO_START) == 0;
    g_autofree char *text = NULL;

    if (lookup && cbus_span_is(facts->member, "NameHasOwner"))
        return answer_return(out, self, call, "b", no, sizeof no);
    if (starts)
        text =
            g_strdup_printf("The name %.*s was not provided by any .service files", (int)name.len, name.text);
    else if (lookup)
        text = g_strdup_printf("Could not get owner of name '%.*s': no such name", (int)name.len, name.text);
    else
        text = g_strdup_printf("Name \"%.*s\" does not exist", (int)name.len, name.text);
    return cbus_filter_answer_error(
        out, self, call, starts ? CBUS_DBUS_ERROR("ServiceUnknown") : CBUS_DBUS_ERROR("NameHasNoOwner"),
        text);
}
