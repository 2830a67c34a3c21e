/* The one file that spells NATS subjects.
 *
 *     cbus.v1.<agent>.in                            hellos
 *     cbus.v1.<agent>.in.<agent instance>           packets to the agent
 *     cbus.v1.<agent>.out.<proxy>.<proxy instance>  welcomes and packets to one proxy process
 *     cbus.v1.<agent>.gone.<proxy>.<proxy instance> where the broker's "no responders" lands
 *     cbus.v1.<agent>.here                          presence
 *     cbus.v1.who                                   "who is there?"
 *
 * Promise: only NKeys and hexadecimal instances stand in subjects, so every token is [A-Za-z0-9] and no input
 * can add a token or a wildcard. The broker reads subjects, so nothing else may be in them.
 *
 * Trust: CbusKey and CbusInstance values are any bytes; their spelling is total. What is read back from a
 * subject passes cbus_nkey_decode(); the shape is compared token by token.
 *
 * Written into the caller's buffer without allocation: the hot path formats subjects. The longest is 159
 * characters. Threads: any; pure. */
#include "wire/subject.h"

#include "wire/bytes.h"

#define ROOT "cbus.v1."

G_STATIC_ASSERT(CBUS_SUBJECT_MAX >
                sizeof ROOT + 2 * CBUS_NKEY_LENGTH + CBUS_INSTANCE_TEXT + sizeof ".gone..");

static char *
put_text(char *out, const char *text)
{
    return g_stpcpy(out, text);
}

static char *
put_key(char *out, const CbusKey *key)
{
    cbus_nkey_encode(key, out);
    return out + CBUS_NKEY_LENGTH;
}

static char *
put_instance(char *out, const CbusInstance *instance)
{
    cbus_instance_encode(instance, out);
    return out + CBUS_INSTANCE_TEXT;
}

static char *
put_agent(char *out, const CbusKey *agent)
{
    out = put_text(out, ROOT);
    return agent != NULL ? put_key(out, agent) : put_text(out, "*");
}

void
cbus_subject_hello(char out[CBUS_SUBJECT_MAX], const CbusKey *agent)
{
    put_text(put_agent(out, agent), ".in");
}

void
cbus_subject_in(char out[CBUS_SUBJECT_MAX], const CbusKey *agent, const CbusInstance *instance)
{
    put_instance(put_text(put_agent(out, agent), ".in."), instance);
}

static void
put_to_proxy(char *out, const char *what, const CbusKey *agent, const CbusKey *proxy,
             const CbusInstance *instance)
{
    char *end = put_key(put_text(put_agent(out, agent), what), proxy);
    put_instance(put_text(end, "."), instance);
}

void
cbus_subject_out(char out[CBUS_SUBJECT_MAX], const CbusKey *agent, const CbusKey *proxy,
                 const CbusInstance *instance)
{
    put_to_proxy(out, ".out.", agent, proxy, instance);
}

void
cbus_subject_gone(char out[CBUS_SUBJECT_MAX], const CbusKey *agent, const CbusKey *proxy,
                  const CbusInstance *instance)
{
    put_to_proxy(out, ".gone.", agent, proxy, instance);
}

void
cbus_subject_here(char out[CBUS_SUBJECT_MAX], const CbusKey *agent)
{
    put_text(put_agent(out, agent), ".here");
}

/* <NKey>.<instance>, to the end. */
static gboolean
is_proxy_and_instance(const char *text)
{
    CbusKey key;
    CbusInstance instance;
    return strlen(text) == CBUS_NKEY_LENGTH + 1 + CBUS_INSTANCE_TEXT && text[CBUS_NKEY_LENGTH] == '.' &&
           cbus_nkey_decode(text, CBUS_NKEY_LENGTH, &key, NULL) &&
           cbus_instance_parse(text + CBUS_NKEY_LENGTH + 1, CBUS_INSTANCE_TEXT, &instance);
}

gboolean
cbus_subject_agent(const char *subject, CbusKey *agent)
{
    gsize root = strlen(ROOT);
    if (strncmp(subject, ROOT, root) != 0 || strnlen(subject + root, CBUS_NKEY_LENGTH) < CBUS_NKEY_LENGTH)
        return FALSE;
    const char *name = subject + root, *rest = name + CBUS_NKEY_LENGTH;
    gboolean shape;
    if (g_str_has_prefix(rest, ".out."))
        shape = is_proxy_and_instance(rest + strlen(".out."));
    else if (g_str_has_prefix(rest, ".gone."))
        shape = is_proxy_and_instance(rest + strlen(".gone."));
    else
        shape = strcmp(rest, ".here") == 0;
    return shape && cbus_nkey_decode(name, CBUS_NKEY_LENGTH, agent, NULL);
}
