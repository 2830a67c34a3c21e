/* cbus complete: what could stand next on a command line of cbus. The completions of the shells ask it.
 *
 *     cbus complete -- WORD…      all words behind "cbus", the last one as far as it is typed
 *
 * prints a line for each candidate: the whole word, a tab, and what it is. A line that begins with a colon
 * says that the shell knows better: ":files", ":hosts", ":command" (behind the words there are, another
 * command line begins). So bash, zsh and fish offer the same, and each needs only what is its own.
 *
 * Options stand in a table here; that it is what the verbs take is tested (tests/integration/
 * test_completion.py). Words are read as the verbs read them, but nothing is wrong with half a command line:
 * what can not be understood offers nothing, without a word. --bus, --nkeys and --on that are typed already
 * choose whom to ask (cli/complete_remote.c).
 *
 * A prompt must not hang: it all ends after three seconds, with what there is. Candidates are names of D-Bus,
 * NKeys and pinned names, letters and "_./-@" alone, so that no shell can take one for anything else; what
 * they are is remote text, and escaped. One thread. */
#include "cli/complete.h"

#include "cli/bus.h"
#include "cli/verbs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECONDS 3

typedef enum {
    VALUE_NONE,
    VALUE_ANY, /* nobody knows which */
    VALUE_BUS,
    VALUE_MACHINES,
    VALUE_TAGS,
    VALUE_FILE,
} Value;

typedef struct {
    const char *name;
    Value value;
    const char *verbs;
    const char *what;
} Option;

static const Option options[] = {
    {"--nkeys", VALUE_MACHINES, "get invoke machines monitor wait", "these machines"},
    {"--on", VALUE_TAGS, "get invoke machines monitor wait", "machines with a tag"},
    {"--unpinned", VALUE_NONE, "get invoke monitor wait", "unpinned machines, too"},
    {"--timeout", VALUE_ANY, "get invoke machines wait", "seconds"},
    {"--ordered", VALUE_NONE, "get invoke", "print in a stable order"},
    {"--batch", VALUE_ANY, "get invoke", "machines at a time"},
    {"--fail-fast", VALUE_NONE, "get invoke", "stop at the first failure"},
    {"--args-json", VALUE_ANY, "invoke", "arguments as a JSON array"},
    {"--yes", VALUE_NONE, "invoke", "do not ask back"},
    {"--any", VALUE_NONE, "wait", "one machine is enough"},
    {"--wait", VALUE_ANY, "machines", "until N are online"},
    {"--watch", VALUE_NONE, "machines", "stay and show what changes"},
    {"--port", VALUE_ANY, "keyscan", "port of sshd"},
    {"--stdin", VALUE_NONE, "keyscan", "more hosts from standard input"},
    {"--public-key", VALUE_ANY, "nkey", "the key itself"},
    {"--public-key-file", VALUE_FILE, "nkey", "a file that holds it"},
    {"--known-machines", VALUE_FILE, "trust", "the file to change"},
    {"--json", VALUE_NONE, "get invoke keyscan machines monitor wait", "print JSON"},
    {"--bus", VALUE_BUS, "get invoke machines monitor run wait", "the proxy's bus"},
    {"--help", VALUE_NONE, "get invoke keyscan machines monitor nkey run trust wait", "show the options"},
};

typedef struct {
    const char *verb;
    CbusFleetOptions fleet;
    GPtrArray *lists;     /* of --nkeys and --on, borrowed */
    GPtrArray *words;     /* that are no options, borrowed */
    const Option *wanted; /* whose value is being typed */
    gboolean literal;     /* behind "--" */
} Line;

void
cbus_complete_offer(const CbusTyping *typing, const char *candidate, const char *what)
{
    g_autofree char *safe = what != NULL ? cbus_text_escape(what, 64) : NULL;

    if (g_str_has_prefix(candidate, typing->typed))
        printf("%s%s\t%s\n", typing->kept, candidate, safe != NULL ? safe : "");
}

static gboolean
is_listed(const char *list, const char *word)
{
    g_auto(GStrv) words = g_strsplit(list, " ", -1);

    return g_strv_contains((const char *const *)words, word);
}

/* The option that WORD, up to its "=", is of VERB. */
static const Option *
find_option(const char *verb, const char *word)
{
    gsize length = strcspn(word, "=");

    for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
        if (strlen(options[i].name) == length && strncmp(options[i].name, word, length) == 0 &&
            is_listed(options[i].verbs, verb))
            return &options[i];
    }
    return NULL;
}

/* ---- what is typed already ---- */

static void
take_option(Line *line, const Option *option, char *value)
{
    switch (option->value) {
        case VALUE_BUS:
            g_free(line->fleet.bus);
            line->fleet.bus = g_strdup(value);
            break;
        case VALUE_MACHINES:
        case VALUE_TAGS:
            g_ptr_array_add(line->lists, value);
            break;
        case VALUE_NONE:
            line->fleet.unpinned = line->fleet.unpinned || strcmp(option->name, "--unpinned") == 0;
            break;
        case VALUE_ANY:
        case VALUE_FILE:
            break;
    }
}

/* WORDS: all that are finished. `run` ends its options where its machine stands. */
static void
read_words(Line *line, char **words, guint n)
{
    for (guint i = 0; i < n; i++) {
        const Option *option = line->literal ? NULL : find_option(line->verb, words[i]);
        char *value = option != NULL ? strchr(words[i], '=') : NULL;

        if (!line->literal && strcmp(words[i], "--") == 0) {
            line->literal = TRUE;
        } else if (option == NULL) {
            g_ptr_array_add(line->words, words[i]);
        } else if (option->value == VALUE_NONE || value != NULL) {
            take_option(line, option, value != NULL ? value + 1 : NULL);
        } else if (i + 1 < n) {
            take_option(line, option, words[++i]);
        } else {
            line->wanted = option;
        }
    }
}

/* ---- what could come ---- */

static void
offer_verbs(const CbusTyping *typing)
{
    for (const CbusVerb *verb = cbus_verbs; verb->name != NULL; verb++) {
        if (verb->summary != NULL)
            cbus_complete_offer(typing, verb->name, verb->summary);
    }
    cbus_complete_offer(typing, "--help", "show the verbs");
    cbus_complete_offer(typing, "--version", "show the version");
}

static void
offer_options(const CbusTyping *typing, const char *verb)
{
    for (guint i = 0; i < G_N_ELEMENTS(options); i++) {
        if (is_listed(options[i].verbs, verb))
            cbus_complete_offer(typing, options[i].name, options[i].what);
    }
}

/* The last word of a list with commas between them. */
static void
offer_list(const Line *line, const CbusTyping *typing)
{
    const char *comma = strrchr(typing->typed, ',');
    gsize before = comma != NULL ? (gsize)(comma + 1 - typing->typed) : 0;
    g_autofree char *head = g_strndup(typing->typed, before), *kept = g_strconcat(typing->kept, head, NULL);
    const CbusTyping last = {.kept = kept, .typed = typing->typed + before};

    cbus_complete_tags(&last, &line->fleet);
    if (line->wanted->value == VALUE_MACHINES)
        cbus_complete_machines(&last, &line->fleet);
}

static void
offer_value(const Line *line, const CbusTyping *typing)
{
    switch (line->wanted->value) {
        case VALUE_BUS:
            cbus_complete_offer(typing, "session", NULL);
            cbus_complete_offer(typing, "system", NULL);
            break;
        case VALUE_MACHINES:
        case VALUE_TAGS:
            offer_list(line, typing);
            break;
        case VALUE_FILE:
            puts(":files");
            break;
        case VALUE_NONE:
        case VALUE_ANY:
            break;
    }
}

static void
offer_remote(const Line *line, const CbusTyping *typing)
{
    char *const *words = (char *const *)line->words->pdata;
    gboolean invoke = strcmp(line->verb, "invoke") == 0;

    if (line->words->len == 0)
        cbus_complete_services(typing, &line->fleet);
    else if (line->words->len == 1)
        cbus_complete_paths(typing, &line->fleet, words[0]);
    else if (line->words->len == 2)
        cbus_complete_members(typing, &line->fleet, words[0], words[1],
                              invoke ? CBUS_MEMBER_METHOD : CBUS_MEMBER_PROPERTY);
    else if (line->words->len == 3 && invoke)
        cbus_complete_signature(typing, &line->fleet, words[0], words[1], words[2]);
}

static void
offer_word(const Line *line, const CbusTyping *typing)
{
    guint words = line->words->len;

    if (is_listed("get invoke wait", line->verb)) {
        offer_remote(line, typing);
    } else if (strcmp(line->verb, "run") == 0) {
        if (words == 0)
            cbus_complete_machines(typing, &line->fleet);
        else if (line->literal)
            puts(":command");
        else
            cbus_complete_offer(typing, "--", "the command");
    } else if (strcmp(line->verb, "trust") == 0 && words == 0) {
        cbus_complete_strangers(typing, &line->fleet);
    } else if (strcmp(line->verb, "keyscan") == 0) {
        puts(":hosts");
    }
}

/* TYPED: the last word. */
static void
offer(Line *line, const char *typed)
{
    CbusTyping typing = {.kept = "", .typed = typed};
    const char *equals = strchr(typed, '=');
    g_autofree char *kept = NULL;

    if (line->wanted == NULL && !line->literal && typed[0] == '-') {
        if (equals == NULL) {
            offer_options(&typing, line->verb);
            return;
        }
        line->wanted = find_option(line->verb, typed);
        kept = g_strndup(typed, (gsize)(equals + 1 - typed));
        typing = (CbusTyping){.kept = kept, .typed = equals + 1};
        if (line->wanted == NULL)
            return;
    }
    if (line->wanted != NULL)
        offer_value(line, &typing);
    else
        offer_word(line, &typing);
}

static void
on_alarm(int number)
{
    _exit(0);
}

CbusExit
cbus_cli_complete(int argc, char **argv)
{
    g_autoptr(GPtrArray) lists = g_ptr_array_new(), words = g_ptr_array_new();
    Line line = {.lists = lists, .words = words};
    char **typed = argv + 1;
    int n = argc - 1;

    if (n > 0 && strcmp(typed[0], "--") == 0) {
        typed++;
        n--;
    }
    if (n < 1)
        return CBUS_EXIT_USAGE;
    /* What is printed leaves by the line, since the end may come at any moment. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGALRM, on_alarm);
    alarm(SECONDS);
    if (n == 1) {
        offer_verbs(&(CbusTyping){.kept = "", .typed = typed[0]});
        return CBUS_EXIT_OK;
    }
    cbus_fleet_options_init(&line.fleet);
    line.verb = typed[0];
    read_words(&line, typed + 1, (guint)n - 2);
    if (lists->len > 0) {
        g_ptr_array_add(lists, NULL);
        line.fleet.nkeys = g_strdupv((char **)lists->pdata);
    }
    offer(&line, typed[n - 1]);
    cbus_fleet_options_clear(&line.fleet);
    return CBUS_EXIT_OK;
}
