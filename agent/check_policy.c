/* Asking a policy before somebody else does.
 *
 * The same files are read by the same functions as at work, and the same function decides. What is missing is
 * a bus: the destination is taken for a service that runs and owns this one name. On a bus a rule for another
 * name of the same process would count as well.
 *
 * A member may carry arguments that count: Get(org.freedesktop.systemd1.Unit,ActiveState),
 * RequestName(com.example.Name). An interface or destination of "-" is none. The key is an NKey, an
 * "ssh-ed25519 AAAA…" line, or a file with one; or the word "gateway", for the policy of [gateway].
 *
 * Trust: the command line is the operator's; names are checked all the same. Runs once. */
#include "agent/check_policy.h"
#include "agent/keys_file.h"
#include "agent/policy_file.h"
#include "agent/user_child.h"
#include "wire/authorized_keys.h"
#include "wire/policy_decide.h"
#include <unistd.h>

#define FLAG    "--check-policy"
#define GATEWAY "gateway"

gboolean
cbus_check_policy_take(int *argc, char **argv, const char *question[CBUS_QUESTION_WORDS])
{
    int at = 1;

    while (at < *argc && !g_str_equal(argv[at], FLAG))
        at++;
    if (*argc - at <= CBUS_QUESTION_WORDS)
        return FALSE;
    for (guint i = 0; i < CBUS_QUESTION_WORDS; i++)
        question[i] = argv[at + 1 + (int)i];
    for (int i = at; i + CBUS_QUESTION_WORDS < *argc; i++)
        argv[i] = argv[i + CBUS_QUESTION_WORDS + 1];
    *argc -= CBUS_QUESTION_WORDS + 1;
    return TRUE;
}

static gboolean
read_key(const char *word, CbusKey *key, GError **error)
{
    g_autofree char *text = NULL;

    if (cbus_public_key_parse(word, -1, key, NULL) || cbus_nkey_decode(word, -1, key, NULL))
        return TRUE;
    if (!g_file_get_contents(word, &text, NULL, NULL)) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    FLAG ": %s is no NKey, no ssh-ed25519 key and no file with one", word);
        return FALSE;
    }
    return cbus_public_key_parse(g_strstrip(text), -1, key, error);
}

static CbusSpan
word(const char *text)
{
    return g_str_equal(text, "-") ? (CbusSpan){NULL, 0} : cbus_span(text);
}

/* MEMBER or MEMBER(ARGUMENT,ARGUMENT) */
static gboolean
read_member(const char *text, CbusFacts *facts)
{
    const char *open = strchr(text, '('), *close = text + strlen(text) - 1, *comma;
    gboolean is_get, is_get_all, is_set;

    if (open == NULL) {
        facts->member = cbus_span(text);
        return cbus_is_member(facts->member);
    }
    if (*close != ')')
        return FALSE;
    facts->member = (CbusSpan){text, (gsize)(open - text)};
    comma = memchr(open, ',', (gsize)(close - open));
    facts->arguments[0] = (CbusSpan){open + 1, (gsize)((comma != NULL ? comma : close) - open - 1)};
    if (comma != NULL)
        facts->arguments[1] = (CbusSpan){comma + 1, (gsize)(close - comma - 1)};
    is_get = cbus_span_is(facts->member, "Get");
    is_set = cbus_span_is(facts->member, "Set");
    is_get_all = cbus_span_is(facts->member, "GetAll");
    facts->is_regular = comma != NULL ? is_get || is_set : is_get_all;
    return cbus_is_member(facts->member);
}

static gboolean
read_question(const char *const question[CBUS_QUESTION_WORDS], CbusKey *key, CbusFacts *facts, GError **error)
{
    const char *fault = NULL;

    *facts = (CbusFacts){.type = CBUS_MESSAGE_CALL,
                         .destination = word(question[1]),
                         .path = cbus_span(question[2]),
                         .interface = word(question[3])};
    if (facts->destination.text != NULL && !cbus_is_bus_name(facts->destination))
        fault = "DEST is no bus name (nor '-')";
    else if (!cbus_is_object_path(facts->path))
        fault = "PATH is no object path";
    else if (facts->interface.text != NULL && !cbus_is_interface(facts->interface))
        fault = "INTERFACE is no interface (nor '-')";
    else if (!read_member(question[4], facts))
        fault = "MEMBER is neither MEMBER nor MEMBER(ARGUMENT,ARGUMENT)";
    if (fault != NULL)
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, FLAG ": %s", fault);
    return fault == NULL && (g_str_equal(question[0], GATEWAY) || read_key(question[0], key, error));
}

/* Each name is owned by somebody who owns no other. */
static const char *const *
runs(CbusSpan name, gpointer user_data)
{
    static const char *const none[] = {NULL};

    return none;
}

static int
decide(const CbusPolicy *policy, const CbusFacts *facts)
{
    const CbusJudge judge = {policy, runs, NULL, {NULL, 0}};
    CbusDecision decision = cbus_judge(&judge, facts);
    const CbusRule *rule = decision.rule;
    const char *name = cbus_policy_name(policy), *verdict = "allowed";

    if (decision.verdict == CBUS_VERDICT_HIDE)
        verdict = "denied (as if it did not exist)";
    else if (decision.verdict == CBUS_VERDICT_DENY)
        verdict = "denied";
    if (rule != NULL) {
        g_print("%s by policy %s: %s:%u: %s\n", verdict, name, rule->file, rule->line, rule->text);
    } else if (decision.verdict == CBUS_VERDICT_ALLOW) {
        g_print("%s by policy %s, as to everybody\n", verdict, name);
    } else {
        g_autofree char *hint = cbus_judge_hint(facts);
        g_print("%s by policy %s: no rule of it allows this; what would: %s\n", verdict, name, hint);
    }
    return decision.verdict != CBUS_VERDICT_ALLOW;
}

static void
line_refused(guint number, const char *reason, gpointer user_data)
{
    g_printerr("%s:%u: %s\n", (const char *)user_data, number, reason);
}

static int
decide_gateway(const CbusPolicyFile *file, const CbusFacts *facts)
{
    const CbusGatewayConfig *gateway = cbus_policy_file_gateway(file);

    if (gateway != NULL)
        return decide(cbus_policies_lookup(cbus_policy_file_policies(file), gateway->policy), facts);
    g_print("denied: there is no gateway\n");
    return 1;
}

int
cbus_check_policy(const char *authorized_keys, const char *config,
                  const char *const question[CBUS_QUESTION_WORDS])
{
    g_autoptr(CbusPolicyFile) policies = cbus_policy_file_new(config, geteuid());
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) text = NULL;
    char nkey[CBUS_NKEY_LENGTH + 1];
    CbusFacts facts;
    CbusKey key;
    gsize len;

    if (!read_question(question, &key, &facts, &error)) {
        g_printerr("%s\n", error->message);
        return 2;
    }
    (void)cbus_policy_file_read(policies, line_refused, (gpointer)config);
    if (g_str_equal(question[0], GATEWAY))
        return decide_gateway(policies, &facts);
    if ((text = cbus_keys_file_read(authorized_keys, geteuid(), CBUS_KEYS_FILE_NOBODY, &error)) == NULL) {
        g_printerr("%s\n", error->message);
        return 1;
    }
    const char *data = g_bytes_get_data(text, &len);
    g_autoptr(CbusAuthorizedKeys) keys =
        cbus_authorized_keys_parse(data != NULL ? data : "", len, line_refused, (gpointer)authorized_keys);
    cbus_authorized_keys_require(keys, cbus_policy_file_policies(policies), line_refused,
                                 (gpointer)authorized_keys);
    cbus_authorized_keys_judge(keys, cbus_user_child_judge, NULL, line_refused, (gpointer)authorized_keys);
    const CbusAuthorizedLine *line = cbus_authorized_keys_lookup(keys, &key);
    cbus_nkey_encode(&key, nkey);
    if (line == NULL) {
        g_print("denied: %s is not authorized by %s\n", nkey, authorized_keys);
        return 1;
    }
    if (line->policy == NULL) {
        g_print("allowed: %s:%u names no policy, so that the bus alone decides\n", authorized_keys,
                line->number);
        return 0;
    }
    return decide(cbus_policies_lookup(cbus_policy_file_policies(policies), line->policy), &facts);
}
