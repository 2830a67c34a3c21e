/* What many machines answered, for people or as JSON.
 *
 * For people: a block for each machine, its name and NKey on one line and below it the value as busctl prints
 * it, or the error in its place; as answers come, or with --ordered in the order of the machines. On a
 * terminal machines and errors are coloured (not with NO_COLOR), and while answers are missing the last line
 * says how many are there. A claimed name has a '?' behind it: it proves nothing.
 *
 * As JSON: one object when all is known, with machines in their order:
 *     {"destination":…,"path":…,"machines":[{"nkey":…,"name":…,"ok":true,"type":…,"data":…},
 *      {"nkey":…,"name":…,"ok":false,"error":…,"message":…}]}
 *
 * Who failed is named on standard error, too: with the reason, unless both go to one terminal, where the
 * reason stands in the block already. Remote text is escaped on every way out. One thread. */
#include "cli/report.h"

#include "cli/json.h"
#include "cli/value.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BOLD  "\033[1m"
#define RED   "\033[31m"
#define PLAIN "\033[0m"
#define CLEAR "\r\033[K"

#define REASON_MAX 1024 /* characters: a machine's error text can be megabytes, --json tells it whole */

struct _CbusReport {
    CbusReportKind kind;
    const CbusFleetOptions *options;
    const GPtrArray *machines;
    const CbusFleetCall *call;
    gboolean colour, live, one_terminal;
    char **texts; /* what waits for its turn */
    guint answered, printed, failed;
    GString *failures; /* names */
};

static void
show_progress(const CbusReport *report)
{
    if (report->live && report->answered < report->machines->len)
        g_printerr(CLEAR "%u of %u %s", report->answered, report->machines->len,
                   report->kind == CBUS_REPORT_WAIT ? "got there" : "answered");
}

static void
hide_progress(const CbusReport *report)
{
    if (report->live)
        g_printerr(CLEAR);
}

CbusReport *
cbus_report_new(CbusReportKind kind, const CbusFleetOptions *options, const GPtrArray *machines,
                const CbusFleetCall *call)
{
    CbusReport *report = g_new0(CbusReport, 1);
    const char *terminal = g_getenv("TERM"), *no_colour = g_getenv("NO_COLOR");
    gboolean able = g_strcmp0(terminal, "dumb") != 0;

    report->kind = kind;
    report->options = options;
    report->machines = machines;
    report->call = call;
    report->colour = able && isatty(STDOUT_FILENO) && (no_colour == NULL || no_colour[0] == '\0');
    report->live = able && isatty(STDERR_FILENO);
    report->one_terminal = isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
    report->texts = g_new0(char *, machines->len);
    report->failures = g_string_new(NULL);
    show_progress(report);
    return report;
}

void
cbus_report_free(CbusReport *report)
{
    if (report == NULL)
        return;
    for (guint i = 0; i < report->machines->len; i++)
        g_free(report->texts[i]);
    g_free(report->texts);
    g_string_free(report->failures, TRUE);
    g_free(report);
}

static char *
label(const CbusRosterMachine *machine)
{
    g_autofree char *name = cbus_text_escape(machine->name, 64);

    if (name[0] == '\0')
        return g_strdup(machine->nkey);
    return g_strconcat(name, machine->pinned ? " " : "? ", machine->nkey, NULL);
}

/* The value to show, or NULL when the answer is not what was asked for. (transfer full) */
static GVariant *
shown(const CbusReport *report, const CbusFleetAnswer *answer)
{
    g_autoptr(GVariant) boxed = NULL;

    if (answer->body == NULL || report->kind == CBUS_REPORT_BODY)
        return answer->body != NULL ? g_variant_ref(answer->body) : NULL;
    if (!g_variant_is_of_type(answer->body, G_VARIANT_TYPE("(v)")))
        return NULL;
    boxed = g_variant_get_child_value(answer->body, 0);
    return g_variant_get_variant(boxed);
}

static char *
block(const CbusReport *report, const CbusRosterMachine *machine, GVariant *value, const char *error,
      const char *message)
{
    g_autofree char *head = label(machine);
    const char *bold = report->colour ? BOLD : "", *plain = report->colour ? PLAIN : "";
    g_autofree char *text = NULL;

    if (value == NULL) {
        g_autofree char *name = cbus_text_escape(error, 0), *why = cbus_text_escape(message, REASON_MAX);

        return g_strdup_printf("%s%s%s\n  %s%s: %s%s\n", bold, head, plain, report->colour ? RED : "", name,
                               why, plain);
    }
    text = report->kind == CBUS_REPORT_BODY ? cbus_value_body_text(value) : cbus_value_text(value);
    return g_strdup_printf("%s%s%s\n  %s\n", bold, head, plain, text[0] != '\0' ? text : "done");
}

static char *
object(const CbusReport *report, const CbusRosterMachine *machine, GVariant *value, const char *error,
       const char *message)
{
    GString *out = g_string_new("{\"nkey\":");

    cbus_json_append_string(out, machine->nkey);
    g_string_append(out, ",\"name\":");
    cbus_json_append_string(out, machine->name);
    g_string_append(out, value != NULL ? ",\"ok\":true,\"type\":" : ",\"ok\":false,\"error\":");
    if (value != NULL) {
        const char *type = g_variant_get_type_string(value);
        gboolean body = report->kind == CBUS_REPORT_BODY;
        g_autofree char *signature = body ? g_strndup(type + 1, strlen(type) - 2) : g_strdup(type);

        cbus_json_append_string(out, signature);
        g_string_append(out, ",\"data\":");
        cbus_json_append_value(out, value);
    } else {
        cbus_json_append_string(out, error);
        g_string_append(out, ",\"message\":");
        cbus_json_append_string(out, message);
    }
    g_string_append_c(out, '}');
    return g_string_free(out, FALSE);
}

static void
note_failure(CbusReport *report, const CbusRosterMachine *machine, const char *error, const char *message)
{
    g_autofree char *who = label(machine);

    report->failed++;
    if (!report->one_terminal || report->options->json) {
        const char *end = message;

        for (guint i = 0; i < REASON_MAX && *end != '\0'; i++)
            end = g_utf8_next_char(end);
        hide_progress(report);
        cbus_cli_complain("%s: %s: %.*s%s", who, error, (int)(end - message), message,
                          *end != '\0' ? "…" : "");
        return;
    }
    g_string_append_printf(report->failures, "%s%s", report->failures->len > 0 ? ", " : "",
                           machine->pinned ? machine->name : machine->nkey);
}

static void
print_ready(CbusReport *report)
{
    while (report->printed < report->machines->len && report->texts[report->printed] != NULL) {
        g_print("%s", report->texts[report->printed]);
        g_clear_pointer(&report->texts[report->printed], g_free);
        report->printed++;
    }
}

void
cbus_report_add(CbusReport *report, guint index, const CbusFleetAnswer *answer)
{
    g_autoptr(GVariant) value = shown(report, answer);
    const char *error = answer->error, *message = answer->message;
    char *text;

    if (value == NULL && error == NULL) {
        error = "org.freedesktop.DBus.Error.InvalidSignature";
        message = "the answer is not one variant";
    }
    report->answered++;
    if (value == NULL)
        note_failure(report, answer->machine, error, message);
    text = report->options->json ? object(report, answer->machine, value, error, message)
                                 : block(report, answer->machine, value, error, message);
    hide_progress(report);
    if (report->options->json || report->options->ordered) {
        report->texts[index] = text;
        if (!report->options->json)
            print_ready(report);
    } else {
        g_print("%s", text);
        g_free(text);
    }
    fflush(stdout);
    show_progress(report);
}

static void
print_json(const CbusReport *report)
{
    g_autoptr(GString) head = g_string_new("{\"destination\":");
    gboolean first = TRUE;

    cbus_json_append_string(head, report->call->destination);
    g_string_append(head, ",\"path\":");
    cbus_json_append_string(head, report->call->path);
    g_string_append(head, ",\"machines\":[");
    fputs(head->str, stdout);
    for (guint i = 0; i < report->machines->len; i++) {
        if (report->texts[i] == NULL)
            continue;
        fputs(first ? "\n" : ",\n", stdout);
        fputs(report->texts[i], stdout);
        first = FALSE;
    }
    fputs("]}\n", stdout);
}

CbusExit
cbus_report_end(CbusReport *report)
{
    hide_progress(report);
    if (report->options->json)
        print_json(report);
    if (report->failures->len > 0)
        cbus_cli_complain("%u of %u machines failed: %s", report->failed, report->machines->len,
                          report->failures->str);
    return report->failed == 0 ? CBUS_EXIT_OK : CBUS_EXIT_FAILED;
}
