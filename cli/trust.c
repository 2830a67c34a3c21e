/* cbus trust: pin a name to a machine's NKey.
 *
 * `cbus trust NKEY NAME` adds a line to known_machines, or gives the machine that is there already its new
 * name. cbus-proxy re-reads the file when it changes.
 *
 * What stands in the file is the operator's: comments, blank lines, order and lines that do not parse stay as
 * they are; a rename touches the name alone. The file is replaced whole by rename(2), so that the proxy, and
 * whoever reads after a power cut, sees the old or the new one. Two trusts at a time wait for each other: the
 * directory is locked from reading to renaming. A symbolic link is followed, for those who keep their
 * configuration elsewhere. The new file is its owner's alone (0600), as is a directory made for it (0700).
 *
 * Refused: what is no name (exit 2), a name that another key has, and one that could be taken for another
 * machine's at a glance (exit 1): pinning is what makes names trustworthy. At the end the new text is read as
 * the proxy will read it, and not written unless it pins what was asked for. */
#include "cli/cli.h"

#include "cli/bus.h"
#include "wire/crypto.h"
#include "wire/known_machines.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

typedef struct {
    CbusKey key;
    char nkey[CBUS_NKEY_LENGTH + 1];
    const char *name;
} Pin;

static void
on_fault(guint line, const GError *error, gpointer user_data)
{
    cbus_cli_complain("%s: %s (the line pins nothing; it stays as it is)", (const char *)user_data,
                      error->message);
}

/* Makes and locks the directory of PATH. Returns: a descriptor that holds the lock, or −1 with errno. */
static int
lock_directory(const char *path)
{
    g_autofree char *directory = g_path_get_dirname(path);
    int fd;

    if (g_mkdir_with_parents(directory, 0700) < 0)
        return -1;
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        while (flock(fd, LOCK_EX) < 0)
            if (errno != EINTR) {
                int saved = errno;

                close(fd);
                errno = saved;
                return -1;
            }
    return fd;
}

/* The text of PATH, empty if there is no such file. */
static char *
read_file(const char *path, gsize *len, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, len, &cause)) {
        if (g_error_matches(cause, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
            *len = 0;
            return g_strdup("");
        }
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    if (*len > CBUS_KNOWN_MACHINES_LENGTH) {
        g_set_error(error, CBUS_KNOWN_ERROR, CBUS_KNOWN_ERROR_LIMIT, "%s is over %d bytes: no such file",
                    path, CBUS_KNOWN_MACHINES_LENGTH);
        return NULL;
    }
    return g_steal_pointer(&text);
}

/* May PIN's name be given to its key? */
static gboolean
check_name(const CbusKnownMachines *known, const Pin *pin)
{
    const CbusKnownMachine *other = cbus_known_machines_by_name(known, pin->name);
    const char *how = "is the name of another machine";
    char nkey[CBUS_NKEY_LENGTH + 1];

    if (other == NULL) {
        other = cbus_known_machines_resembling(known, pin->name);
        how = "looks too much like another machine's name";
    }
    if (other == NULL || cbus_key_equal(&other->key, &pin->key))
        return TRUE;
    cbus_nkey_encode(&other->key, nkey);
    cbus_cli_complain("\"%s\" %s: \"%s\" on line %u, %s. Choose another name, or rename that one first",
                      pin->name, how, other->name, other->line, nkey);
    return FALSE;
}

/* Where the name stands on OLD's line of TEXT: after the key and blanks, as wire/known_machines.c reads it.
 */
static gsize
name_offset(const GString *text, const CbusKnownMachine *old)
{
    const char *at = text->str;

    /* Lines may hold NULs, but not the one that was read as OLD. */
    for (guint line = 1; line < old->line; line++)
        at = (const char *)memchr(at, '\n', text->len - (gsize)(at - text->str)) + 1;
    at += strspn(at, " \t\r") + CBUS_NKEY_LENGTH;
    return (gsize)(at + strspn(at, " \t\r") - text->str);
}

static GString *
edit(const char *text, gsize len, const CbusKnownMachine *old, const Pin *pin)
{
    GString *out = g_string_new_len(text, (gssize)len);

    if (old != NULL) {
        gsize offset = name_offset(out, old);

        g_string_erase(out, (gssize)offset, (gssize)strlen(old->name));
        g_string_insert(out, (gssize)offset, pin->name);
        return out;
    }
    if (len > 0 && text[len - 1] != '\n')
        g_string_append_c(out, '\n');
    g_string_append_printf(out, "%s %s\n", pin->nkey, pin->name);
    return out;
}

static gboolean
pins(const GString *text, const Pin *pin)
{
    g_autoptr(CbusKnownMachines) known = cbus_known_machines_parse(text->str, text->len, NULL, NULL);
    const CbusKnownMachine *entry = cbus_known_machines_by_key(known, &pin->key);

    return entry != NULL && g_str_equal(entry->name, pin->name);
}

static gboolean
write_pin(const char *path, const char *text, gsize len, const CbusKnownMachine *old, const Pin *pin)
{
    g_autoptr(GError) error = NULL;
    GString *changed = edit(text, len, old, pin);
    gboolean ok = pins(changed, pin);

    if (!ok)
        cbus_cli_complain("%s can not take the name: it is full or damaged", path);
    else if (!g_file_set_contents_full(path, changed->str, (gssize)changed->len,
                                       G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                       &error)) {
        cbus_cli_complain("%s", error->message);
        ok = FALSE;
    }
    g_string_free(changed, TRUE);
    return ok;
}

/* With the directory locked. */
static CbusExit
trust(const char *path, const Pin *pin)
{
    g_autoptr(CbusKnownMachines) known = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    const CbusKnownMachine *old;
    gsize len;

    text = read_file(path, &len, &error);
    if (text == NULL) {
        cbus_cli_complain("%s", error->message);
        return CBUS_EXIT_FAILED;
    }
    known = cbus_known_machines_parse(text, len, on_fault, (gpointer)path);
    old = cbus_known_machines_by_key(known, &pin->key);
    if (old != NULL && g_str_equal(old->name, pin->name)) {
        g_printerr("cbus: %s is \"%s\" already\n", pin->nkey, pin->name);
        return CBUS_EXIT_OK;
    }
    if (!check_name(known, pin) || !write_pin(path, text, len, old, pin))
        return CBUS_EXIT_FAILED;
    if (old != NULL)
        g_printerr("cbus: %s was \"%s\" and is \"%s\" now\n", pin->nkey, old->name, pin->name);
    else
        g_printerr("cbus: %s is \"%s\" now\n", pin->nkey, pin->name);
    return CBUS_EXIT_OK;
}

static gboolean
read_pin(const char *nkey, const char *name, Pin *pin)
{
    g_autoptr(GError) error = NULL;

    if (!cbus_nkey_decode(nkey, -1, &pin->key, &error)) {
        cbus_cli_complain("\"%s\": %s. \"cbus nkey\" makes one from an SSH public key", nkey, error->message);
        return FALSE;
    }
    if (!cbus_machine_name_check(name, strlen(name), &error)) {
        cbus_cli_complain("\"%s\": %s", name, error->message);
        return FALSE;
    }
    cbus_nkey_encode(&pin->key, pin->nkey);
    pin->name = name;
    return TRUE;
}

CbusExit
cbus_cli_trust(int argc, char **argv)
{
    g_autofree char *bus = NULL;
    g_autofree char *file = NULL;
    g_autofree char *real = NULL;
    const GOptionEntry entries[] = {
        {"known-machines", 0, 0, G_OPTION_ARG_FILENAME, &file,
         "The file to change (default: ~/.config/cbus/known_machines)", "FILE"},
        CBUS_BUS_OPTION_UNUSED(&bus),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new("NKEY NAME - pin a name to a machine's NKey");
    CbusExit status;
    Pin pin;
    int lock;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!cbus_cli_parse(context, &argc, &argv, 2, 2))
        return CBUS_EXIT_USAGE;
    cbus_crypto_init();
    if (!read_pin(argv[1], argv[2], &pin))
        return CBUS_EXIT_USAGE;
    if (file == NULL)
        file = g_build_filename(g_get_user_config_dir(), "cbus", "known_machines", NULL);
    real = realpath(file, NULL);
    lock = lock_directory(real != NULL ? real : file);
    if (lock < 0) {
        cbus_cli_complain("can not use the directory of %s: %s", file, g_strerror(errno));
        return CBUS_EXIT_FAILED;
    }
    status = trust(real != NULL ? real : file, &pin);
    close(lock);
    return status;
}
