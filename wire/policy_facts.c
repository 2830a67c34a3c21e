/* Facts of a message, and what to tell who was denied.
 *
 * Of a body the first two arguments count, and only while they are strings or object paths: the interface and
 * the property of a Properties call, the name or match rule in a call of the bus, the path in
 * InterfacesAdded. A Properties call whose signature is not the specification's is marked: a lenient service
 * might read it in another way than we would.
 *
 * Arguments are of any content and length: what is told of them is what rules are made of, and nothing else.
 *
 * Trust: header and body were checked; a body is nevertheless read within its bounds. Pure, any thread. */
#include "wire/body.h"
#include "wire/policy_decide.h"

#define PROPERTIES "org.freedesktop.DBus.Properties"
#define PATH_SHOWN 1024

static gboolean
has_signature_of_properties(const CbusMessage *message)
{
    static const struct {
        const char *member, *signature;
    } known[] = {{"Get", "ss"}, {"GetAll", "s"}, {"Set", "ssv"}};

    for (guint i = 0; i < G_N_ELEMENTS(known); i++)
        if (cbus_span_is(message->member, known[i].member))
            return cbus_span_is(message->signature, known[i].signature);
    return FALSE;
}

void
cbus_facts_of(const CbusMessage *message, CbusFacts *out)
{
    CbusCursor cursor = cbus_cursor(message);

    *out = (CbusFacts){
        .type = message->type,
        .flags = message->flags,
        .destination = message->destination,
        .sender = message->sender,
        .path = message->path,
        .interface = message->interface,
        .member = message->member,
    };
    for (gsize i = 0; i < 2 && i < message->signature.len; i++) {
        char type = message->signature.text[i];
        if ((type != 's' && type != 'o') || !cbus_cursor_string(&cursor, &out->arguments[i]))
            break;
    }
    out->is_regular = has_signature_of_properties(message);
}

static const char *
text_of(CbusSpan span, const char *otherwise)
{
    return span.text != NULL && span.len > 0 ? span.text : otherwise;
}

/* ARGUMENT if it is what rules are made of, and so of bounded length; else absent. */
static CbusSpan
usable(CbusSpan argument, gboolean (*is_one)(CbusSpan text))
{
    return is_one(argument) ? argument : (CbusSpan){NULL, 0};
}

static char *
hint(const char *key, const CbusFacts *facts, CbusSpan name, CbusSpan interface, CbusSpan member)
{
    g_autoptr(GString) out = g_string_new(key);

    g_string_append_printf(out, "=%.*s=", name.text != NULL ? (int)name.len : 1, text_of(name, "*"));
    if (interface.len == 0)
        g_string_append(out, "*");
    else
        g_string_append_printf(out, "%.*s.%.*s", (int)interface.len, interface.text,
                               member.len > 0 ? (int)member.len : 1, text_of(member, "*"));
    if (facts->path.len > 0 && facts->path.len <= PATH_SHOWN)
        g_string_append_printf(out, "@%.*s", (int)facts->path.len, facts->path.text);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static char *
hint_name(const char *key, CbusSpan name)
{
    name = usable(name, cbus_is_bus_name);
    return g_strdup_printf("%s=%.*s", key, name.text != NULL ? (int)name.len : 4, text_of(name, "NAME"));
}

char *
cbus_judge_hint(const CbusFacts *facts)
{
    const CbusSpan driver = CBUS_SPAN_LITERAL("org.freedesktop.DBus"), none = {NULL, 0};
    gboolean to_driver = facts->destination.text == NULL || cbus_span_equal(facts->destination, driver);

    if (facts->type == CBUS_MESSAGE_SIGNAL && facts->from_bus)
        return hint("broadcast", facts, facts->sender, facts->interface, facts->member);
    if (facts->type == CBUS_MESSAGE_SIGNAL)
        return facts->destination.text != NULL ? hint_name("talk", facts->destination)
                                               : g_strdup("own= with a name that the caller owns");
    if (to_driver &&
        (cbus_span_is(facts->member, "RequestName") || cbus_span_is(facts->member, "ReleaseName")))
        return hint_name("own", facts->arguments[0]);
    if (to_driver && cbus_span_is(facts->member, "StartServiceByName"))
        return hint_name("talk", facts->arguments[0]);
    if (to_driver && cbus_span_is(facts->member, "AddMatch"))
        return g_strdup("call=org.freedesktop.DBus=org.freedesktop.DBus.Monitoring.BecomeMonitor, or a valid "
                        "match rule without eavesdrop='true'");
    if (cbus_span_is(facts->interface, PROPERTIES) && facts->is_regular) {
        gboolean all = cbus_span_is(facts->member, "GetAll");
        CbusSpan interface = usable(facts->arguments[0], cbus_is_interface);
        CbusSpan property = usable(facts->arguments[1], cbus_is_member);
        return hint(cbus_span_is(facts->member, "Set") ? "call" : "read", facts, facts->destination,
                    interface, all ? none : property);
    }
    return hint("call", facts, to_driver ? driver : facts->destination, facts->interface, facts->member);
}
