/* Where a setting comes from: the command line, else the environment, else the configuration file, else the
 * default that the program's table names.
 *
 * Every setting is a string; the ones without argument are "true" or unset. The table is the whole truth:
 * it makes the options that --help shows, the environment variables that are looked at, and the keys that a
 * file may hold. A key or a group that the table does not know is refused with file, group and key: a
 * misspelt setting that is silently ignored is a security setting that silently does not apply. So is one of
 * two that contradict each other; faults name their line.
 *
 * Of the default files the first that exists counts, whole; a file that exists and can not be read or parsed
 * is an error and never skipped. With --config only that file counts. An empty environment variable is an
 * unset one. Neither program takes arguments beside its options, so a word that is left over is an error.
 *
 * Trust: the command line, the environment and the files are the operator's. Runs once, at start, in the main
 * thread. */
#include "link/settings.h"
#include "link/read_bounded.h"
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <locale.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (1024 * 1024)

struct _CbusSettings {
    GHashTable *values; /* name → value, both owned */
    char *file;         /* NULL: none */
};

/* What GOption writes into, one a setting. */
typedef struct {
    char *text;
    gboolean flag;
} Given;

static void
free_given(Given *given, gsize n)
{
    for (gsize i = 0; i < n; i++)
        g_free(given[i].text);
    g_free(given);
}

static gsize
table_length(const CbusSetting *table)
{
    gsize n = 0;

    while (table[n].name != NULL)
        n++;
    return n;
}

static const CbusSetting *
find_setting(const CbusSetting *table, const char *name)
{
    for (; table->name != NULL; table++) {
        if (g_str_equal(table->name, name))
            return table;
    }
    return NULL;
}

/* ARG_FILENAME and not ARG_STRING for all: the latter refuses non-ASCII bytes in the C locale. */
static gboolean
parse_command_line(const CbusSetting *table, gsize n, const char *summary, int *argc, char ***argv,
                   Given *given, char **config, GError **error)
{
    g_autofree GOptionEntry *entries = g_new0(GOptionEntry, n + 2);
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    for (gsize i = 0; i < n; i++) {
        gboolean is_flag = table[i].argument == NULL;

        entries[i] = (GOptionEntry){.long_name = table[i].name,
                                    .arg = is_flag ? G_OPTION_ARG_NONE : G_OPTION_ARG_FILENAME,
                                    .arg_data = is_flag ? (gpointer)&given[i].flag : &given[i].text,
                                    .description = table[i].description,
                                    .arg_description = table[i].argument};
    }
    entries[n] = (GOptionEntry){.long_name = "config",
                                .arg = G_OPTION_ARG_FILENAME,
                                .arg_data = config,
                                .description = "Read settings from FILE",
                                .arg_description = "FILE"};
    setlocale(LC_CTYPE, ""); /* --help and errors come in the user's character set */
    g_option_context_set_summary(context, summary);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, error))
        return FALSE;
    if (*argc > 1) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "unexpected argument '%s': see --help for the options", (*argv)[1]);
        return FALSE;
    }
    return TRUE;
}

/* Policies are the agent's, and read by wire/policy.c, since their keys repeat; its gateway is read by
 * agent/gateway_config.c, whenever the file changes. */
static gboolean
is_read_elsewhere(const char *in_group, const char *group)
{
    return g_str_equal(group, "agent") &&
           (g_str_has_prefix(in_group, "policy ") || g_str_equal(in_group, "gateway"));
}

/* Where the lines of a file are. */
typedef struct {
    const CbusSetting *table;
    const char *group; /* ours */
    gboolean inside, skipping;
    GHashTable *seen; /* keys of ours so far → their line */
} Place;

/* "[NAME]" of a file. Returns what is wrong with it, or NULL. */
static char *
enter_group(Place *place, char *line)
{
    gsize len = strlen(line);

    if (line[len - 1] != ']')
        return g_strdup_printf("'%s' is no group: expected [%s]", line, place->group);
    line[len - 1] = '\0';
    place->inside = g_str_equal(line + 1, place->group);
    place->skipping = !place->inside && is_read_elsewhere(line + 1, place->group);
    if (place->inside || place->skipping)
        return NULL;
    return g_strdup_printf("unknown group [%s]: settings belong in [%s]", line + 1, place->group);
}

/* "KEY=VALUE" of a file. Returns what is wrong with it, or NULL. */
static char *
take_setting(Place *place, char *line, guint number)
{
    char *equals = strchr(line, '=');
    gpointer earlier;

    if (equals == NULL)
        return g_strdup_printf("'%s' is neither NAME=VALUE nor [GROUP]", line);
    *equals = '\0';
    g_strchomp(line);
    if (!place->inside)
        return g_strdup_printf("'%s' stands before any group: settings belong in [%s]", line, place->group);
    if (find_setting(place->table, line) == NULL)
        return g_strdup_printf("[%s] has an unknown key '%s': see --help for the settings", place->group,
                               line);
    if (g_hash_table_lookup_extended(place->seen, line, NULL, &earlier))
        return g_strdup_printf("'%s' stands on line %u already", line, GPOINTER_TO_UINT(earlier));
    g_hash_table_insert(place->seen, line, GUINT_TO_POINTER(number));
    return NULL;
}

/* Looks at each line before GKeyFile does, which counts no lines and takes the last of two. */
static gboolean
check_lines(const char *text, const char *file, const CbusSetting *table, const char *group, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    Place place = {.table = table, .group = group, .seen = seen};

    for (guint i = 0; lines[i] != NULL; i++) {
        char *line = g_strstrip(lines[i]);
        g_autofree char *fault = NULL;

        if (*line == '\0' || *line == '#')
            continue;
        if (*line == '[')
            fault = enter_group(&place, line);
        else if (!place.skipping)
            fault = take_setting(&place, line, i + 1);
        if (fault != NULL) {
            g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_PARSE, "%s:%u: %s", file, i + 1, fault);
            return FALSE;
        }
    }
    return TRUE;
}

/* What FILE holds: text, in a regular file of at most FILE_MAX bytes. */
static char *
read_text(const char *file, GError **error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC), code = errno;
    g_autofree char *text = g_malloc(FILE_MAX + 1);
    const char *fault = NULL;
    struct stat status;
    gssize len = -1;

    if (fd < 0)
        fault = g_strerror(code);
    else if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        fault = "Not a regular file";
    else if ((len = cbus_read_bounded(fd, text, FILE_MAX + 1)) < 0)
        fault = g_strerror(errno);
    else if (len > FILE_MAX)
        fault = "larger than 1 MiB";
    else if (memchr(text, '\0', (gsize)len) != NULL)
        fault = "no text: there is a NUL in it";
    if (fd >= 0)
        close(fd);
    if (fault != NULL || len < 0) {
        g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_PARSE, "%s: %s", file, fault);
        return NULL;
    }
    text[len] = '\0';
    return g_steal_pointer(&text);
}

/* The file that counts, checked; NULL without error when there is none. */
static gboolean
load_file(const CbusSetting *table, const char *group, const char *config, const char *const *files,
          GKeyFile **out, char **name, GError **error)
{
    g_autoptr(GKeyFile) key_file = g_key_file_new();
    const char *file = config;
    g_autofree char *text = NULL;

    for (; file == NULL && files != NULL && *files != NULL; files++) {
        if (g_file_test(*files, G_FILE_TEST_EXISTS))
            file = *files;
    }
    if (file == NULL)
        return TRUE;
    if ((text = read_text(file, error)) == NULL)
        return FALSE;
    if (!check_lines(text, file, table, group, error))
        return FALSE;
    if (!g_key_file_load_from_data(key_file, text, strlen(text), G_KEY_FILE_NONE, error)) {
        g_prefix_error(error, "%s: ", file);
        return FALSE;
    }
    *out = g_steal_pointer(&key_file);
    *name = g_strdup(file);
    return TRUE;
}

static gboolean
parse_boolean(const char *text, gboolean *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1", NULL};
    static const char *const no[] = {"false", "no", "off", "0", NULL};

    if (g_strv_contains(yes, text))
        *out = TRUE;
    else if (g_strv_contains(no, text))
        *out = FALSE;
    else
        return FALSE;
    return TRUE;
}

/* The value of one setting, from where it counts. WHERE names the source for an error. */
static gboolean
resolve(const CbusSetting *setting, const Given *given, GKeyFile *key_file, const char *file,
        const char *group, char **out, GError **error)
{
    const char *environment = setting->environment != NULL ? g_getenv(setting->environment) : NULL;
    const char *where = setting->environment;
    g_autofree char *value = NULL;
    gboolean on;

    if (given->text != NULL || given->flag) {
        value = g_strdup(given->flag ? "true" : given->text);
        where = "command line";
    } else if (environment != NULL && *environment != '\0') {
        value = g_strdup(environment);
    } else if (key_file != NULL && g_key_file_has_key(key_file, group, setting->name, NULL)) {
        value = g_key_file_get_string(key_file, group, setting->name, error);
        where = file;
        if (value == NULL) {
            g_prefix_error(error, "%s: [%s] %s: ", file, group, setting->name);
            return FALSE;
        }
    } else {
        value = g_strdup(setting->fallback);
    }
    if (value != NULL && setting->argument == NULL) {
        if (!parse_boolean(value, &on)) {
            g_set_error(error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
                        "%s: %s is '%s': say true or false", where != NULL ? where : "default", setting->name,
                        value);
            return FALSE;
        }
        g_clear_pointer(&value, g_free);
        value = on ? g_strdup("true") : NULL;
    }
    *out = g_steal_pointer(&value);
    return TRUE;
}

/* TABLE ends with a NULL name. Errors are one line for standard error. --help prints and exits. */
CbusSettings *
cbus_settings_parse(const CbusSetting *table, const char *group, const char *const *files,
                    const char *summary, int *argc, char ***argv, GError **error)
{
    gsize n = table_length(table);
    Given *given = g_new0(Given, n);
    g_autofree char *config = NULL;
    g_autofree char *file = NULL;
    g_autoptr(GKeyFile) key_file = NULL;
    g_autoptr(CbusSettings) settings = g_new0(CbusSettings, 1);
    gboolean good;

    settings->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    good = parse_command_line(table, n, summary, argc, argv, given, &config, error) &&
           load_file(table, group, config, files, &key_file, &file, error);
    for (gsize i = 0; good && i < n; i++) {
        char *value = NULL;

        good = resolve(&table[i], &given[i], key_file, file, group, &value, error);
        if (value != NULL)
            g_hash_table_insert(settings->values, g_strdup(table[i].name), value);
    }
    free_given(given, n);
    settings->file = g_steal_pointer(&file);
    return good ? g_steal_pointer(&settings) : NULL;
}

void
cbus_settings_free(CbusSettings *settings)
{
    if (settings == NULL)
        return;
    g_hash_table_unref(settings->values);
    g_free(settings->file);
    g_free(settings);
}

const char *
cbus_settings_file(const CbusSettings *settings)
{
    return settings->file;
}

/* Borrowed until cbus_settings_free(). */
const char *
cbus_settings_get(const CbusSettings *settings, const char *name)
{
    return g_hash_table_lookup(settings->values, name);
}

gboolean
cbus_settings_flag(const CbusSettings *settings, const char *name)
{
    return g_hash_table_contains(settings->values, name);
}
