/* cbus run: a command whose system bus is a machine's.
 *
 *     cbus run web1 -- systemctl restart nginx
 *
 * Asks the proxy for the machine's portal, makes namespaces in which the portal is the system bus and nothing
 * of the local systemd is left (cli/isolate.c), and becomes the command: there is no process between it and
 * the caller, so exit status, signals and terminal are its own. When cbus itself fails, the exit status is
 * 255, as ssh has it, and 255 alone.
 *
 * GDBus has threads, and a process with threads can not enter a user namespace: so a child asks, and tells
 * the answer through a pipe. The child is this program; its answer is trusted, but not its length.
 *
 * MACHINE is an NKey, a pinned name or the beginning of an NKey; names that machines claim select nothing
 * (cli/select.c). One thread. */
#include "cli/cli.h"

#include "cli/bus.h"
#include "cli/isolate.h"
#include "cli/roster.h"
#include "cli/select.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MAX  4096
#define TIMEOUT_MS  10000
#define HOST_PREFIX 8 /* characters of the NKey that stand for a machine without a pinned name */

/* ---- the child: asks the proxy ---- */

static GPtrArray *
ask(const char *bus, GError **error)
{
    g_autoptr(GDBusConnection) connection = cbus_bus_open(bus, error);
    g_autoptr(GVariant) answer = NULL;

    if (connection == NULL)
        return NULL;
    answer = g_dbus_connection_call_sync(connection, CBUS_PROXY_NAME, CBUS_PROXY_PATH,
                                         "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
                                         G_VARIANT_TYPE("(a{oa{sa{sv}}})"), G_DBUS_CALL_FLAGS_NONE,
                                         TIMEOUT_MS, NULL, error);
    return answer != NULL ? cbus_roster_read(answer) : NULL;
}

/* "DIRECTORY NUL NKEY NUL NAME NUL" of a machine that is online, or NULL and told. */
static GByteArray *
describe(const CbusRosterMachine *machine)
{
    g_autofree char *directory = cbus_select_portals(machine);
    g_autoptr(GByteArray) answer = g_byte_array_new();
    const char *const parts[] = {directory, machine->nkey, machine->pinned ? machine->name : ""};

    if (!machine->online) {
        cbus_cli_complain("machine %s is %s: %s", machine->nkey, machine->state, machine->last_error);
        return NULL;
    }
    if (directory == NULL) {
        cbus_cli_complain("machine %s has no portal here; the log of cbus-proxy says why", machine->nkey);
        return NULL;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++)
        g_byte_array_append(answer, (const guint8 *)parts[i], (guint)strlen(parts[i]) + 1);
    return g_steal_pointer(&answer);
}

static int
ask_in_child(const char *bus, const char *word, int out)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) roster = ask(bus, &error);
    g_autoptr(GByteArray) answer = NULL;
    const CbusRosterMachine *machine;

    if (roster == NULL) {
        if (cbus_bus_has_no_proxy(error))
            cbus_bus_complain_no_proxy();
        else
            cbus_cli_complain("%s", error->message);
        return CBUS_EXIT_OWN;
    }
    machine = cbus_select_machine(roster, word, &error);
    if (machine == NULL) {
        cbus_cli_complain("%s", error->message);
        return CBUS_EXIT_OWN;
    }
    answer = describe(machine);
    if (answer == NULL)
        return CBUS_EXIT_OWN;
    if (answer->len <= ANSWER_MAX && write(out, answer->data, answer->len) == answer->len)
        return 0;
    cbus_cli_complain("what the proxy says of machine %s is too long to be true", machine->nkey);
    return CBUS_EXIT_OWN;
}

/* ---- the parent: becomes the command ---- */

/* Bytes read into ANSWER, or −1. */
static gssize
read_answer(int in, char answer[ANSWER_MAX])
{
    gsize len = 0;
    gssize n = 1;

    while (n != 0 && len < ANSWER_MAX) {
        n = read(in, answer + len, ANSWER_MAX - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        len += (gsize)n;
    }
    return (gssize)len;
}

/* Bytes of the answer, or −1, and told by whoever knows why. */
static gssize
find(const char *bus, const char *word, char answer[ANSWER_MAX])
{
    int pipes[2], status = 0;
    gssize len;
    pid_t child;

    if (pipe2(pipes, O_CLOEXEC) < 0) {
        cbus_cli_complain("the proxy can not be asked: %s", g_strerror(errno));
        return -1;
    }
    child = fork();
    if (child == 0)
        _exit(ask_in_child(bus, word, pipes[1]));
    if (child < 0)
        cbus_cli_complain("the proxy can not be asked: %s", g_strerror(errno));
    close(pipes[1]);
    len = child > 0 ? read_answer(pipes[0], answer) : -1;
    close(pipes[0]);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        cbus_cli_complain("the process that asked the proxy was ended by signal %d (%s); nothing was run",
                          WTERMSIG(status), g_strsignal(WTERMSIG(status)));
    return len > 0 && status == 0 ? len : -1;
}

/* The part behind PART of the answer, or NULL when there is none. */
static const char *
next_part(const char *answer, gssize len, const char *part)
{
    const char *end = memchr(part, '\0', (gsize)(answer + len - part));

    return end != NULL && end + 1 < answer + len ? end + 1 : NULL;
}

/* Programs that do not show the machine, whatever bus they are given. */
static void
warn(const char *command)
{
    static const char *const local[] = {"journalctl", "networkctl", NULL};
    g_autofree char *name = g_path_get_basename(command);

    if (g_strv_contains(local, name))
        cbus_cli_complain("warning: %s reads files and sockets of this host, not the machine's bus: what it "
                          "shows is not of the machine",
                          name);
}

static void
become(char **command)
{
    g_auto(GStrv) environment = cbus_isolate_environment(g_get_environ());

    execvpe(command[0], command, environment);
    cbus_cli_complain("can not run %s: %s", command[0], g_strerror(errno));
}

static CbusExit
run(const char *bus, const char *word, char **command)
{
    g_autoptr(GError) error = NULL;
    char answer[ANSWER_MAX];
    gssize len = find(bus, word, answer);
    const char *nkey, *name;

    if (len <= 0 || answer[len - 1] != '\0')
        return CBUS_EXIT_OWN;
    nkey = next_part(answer, len, answer);
    name = nkey != NULL ? next_part(answer, len, nkey) : NULL;
    if (name == NULL)
        return CBUS_EXIT_OWN;

    g_autofree char *socket = g_build_filename(nkey, "bus", NULL);
    g_autofree char *host = name[0] != '\0' ? g_strdup(name) : g_strndup(nkey, HOST_PREFIX);
    warn(command[0]);
    if (cbus_isolate(answer, socket, host, &error))
        become(command);
    else
        cbus_cli_complain("%s", error->message);
    return CBUS_EXIT_OWN;
}

CbusExit
cbus_cli_run(int argc, char **argv)
{
    g_autofree char *bus = NULL;
    const GOptionEntry entries[] = {
        CBUS_BUS_OPTION(&bus),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context =
        g_option_context_new("MACHINE -- COMMAND… - run a command whose system bus is the machine's");
    char **command;

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_strict_posix(context, TRUE);
    g_option_context_set_description(
        context, "MACHINE is an NKey, a pinned name, or the beginning of an NKey (5 characters or more).");
    if (!cbus_cli_parse(context, &argc, &argv, 2, G_MAXINT - 1))
        return CBUS_EXIT_OWN;
    command = argv + 2;
    if (strcmp(command[0], "--") == 0)
        command++;
    if (command[0] == NULL) {
        cbus_cli_complain("no command: cbus run MACHINE -- COMMAND…");
        return CBUS_EXIT_OWN;
    }
    return run(bus, argv[1], command);
}
