/* cbus keyscan: the NKeys of machines, from the host keys that their sshd shows.
 *
 * `cbus keyscan web1` prints web1's NKey, ready for `cbus trust`; with several hosts each line is 'HOST
 * NKEY'. OpenSSH's ssh-keyscan does the asking, all hosts at a time and each for some seconds at most: what
 * it takes to speak with an SSH server is its business. It gets the hosts on its standard input, so that
 * their number is not bounded by the size of a command line, and none of them is taken for an option.
 *
 * What a scan finds is what the network answered, no more: so the fingerprint of each key goes to standard
 * error, as `ssh-keygen -l` shows it, to be compared with the machine's own.
 *
 * A host that fails stops no other. Exit status: 0 all answered, 1 some did not (each is named), 2 usage, 3
 * no host to ask.
 *
 * Trust: a host is a word of letters, digits and ".:%_-", checked before it is used; the lines that come back
 * are of strangers, and each is parsed as a public key (wire/key.c) and matched to a host that was asked for.
 * One thread; it waits for ssh-keyscan. */
#include "cli/cli.h"

#include "cli/bus.h"
#include "cli/json.h"
#include "wire/crypto.h"
#include "wire/key.h"

#include <stdio.h>
#include <string.h>

#define SSH_PORT  22
#define HOST_MAX  255
#define HOSTS_MAX 65536
#define WAIT      "5" /* seconds, for each host */

typedef struct {
    GPtrArray *hosts;  /* of const char *, in the order given */
    GHashTable *lines; /* what ssh-keyscan calls a host → its line's key part; both owned */
    int port;
    gboolean json;
} Scan;

static gboolean
is_host(const char *text)
{
    gsize len = strlen(text);

    if (len == 0 || len > HOST_MAX || text[0] == '-')
        return FALSE;
    for (gsize i = 0; i < len; i++)
        if (!g_ascii_isalnum(text[i]) && strchr(".:%_-", text[i]) == NULL)
            return FALSE;
    return TRUE;
}

static gboolean
add_host(Scan *scan, const char *text)
{
    if (!is_host(text)) {
        cbus_cli_complain("\"%s\" is no host: a name or an address is expected (--port names the port)",
                          text);
        return FALSE;
    }
    if (scan->hosts->len >= HOSTS_MAX) {
        cbus_cli_complain("more than %d hosts", HOSTS_MAX);
        return FALSE;
    }
    g_ptr_array_add(scan->hosts, g_strdup(text));
    return TRUE;
}

/* One host a line; blank lines and what follows a '#' do not count. */
static gboolean
read_hosts(Scan *scan)
{
    g_autoptr(GIOChannel) input = g_io_channel_unix_new(0);
    g_autoptr(GError) error = NULL;
    GIOStatus status = G_IO_STATUS_NORMAL;

    g_io_channel_set_encoding(input, NULL, NULL);
    while (status == G_IO_STATUS_NORMAL) {
        g_autofree char *line = NULL;

        status = g_io_channel_read_line(input, &line, NULL, NULL, &error);
        if (line == NULL)
            continue;
        line[strcspn(line, "#")] = '\0';
        if (*g_strstrip(line) != '\0' && !add_host(scan, line))
            return FALSE;
    }
    if (status != G_IO_STATUS_EOF)
        cbus_cli_complain("can not read standard input: %s", error != NULL ? error->message : "try again");
    return status == G_IO_STATUS_EOF;
}

/* What ssh-keyscan calls HOST. (transfer full) */
static char *
label(const Scan *scan, const char *host)
{
    g_autofree char *lower = g_ascii_strdown(host, -1);

    return scan->port == SSH_PORT ? g_steal_pointer(&lower) : g_strdup_printf("[%s]:%d", lower, scan->port);
}

/* Keeps 'HOST ssh-ed25519 AAAA…' lines, the first of each host. */
static void
take_lines(Scan *scan, char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line != NULL; line++) {
        char *key = strchr(*line, ' ');
        if (**line == '#' || key == NULL)
            continue;
        *key++ = '\0';
        if (!g_hash_table_contains(scan->lines, *line))
            g_hash_table_insert(scan->lines, g_strdup(*line), g_strdup(key));
    }
}

/* Its banners of servers begin with '#'; the rest says why something failed. */
static void
relay_complaints(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line != NULL; line++)
        if (*g_strchomp(*line) != '\0' && **line != '#')
            cbus_cli_complain("ssh-keyscan: %s", *line);
}

/* The text of BYTES up to a NUL. */
static char *
text_of(GBytes *bytes)
{
    gsize len;
    const char *data = g_bytes_get_data(bytes, &len);

    return data != NULL ? g_strndup(data, len) : g_strdup("");
}

static gboolean
scan_hosts(Scan *scan)
{
    g_autofree char *port = g_strdup_printf("%d", scan->port);
    g_autoptr(GError) error = NULL;
    g_autoptr(GSubprocess) keyscan = g_subprocess_new(
        G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE,
        &error, "ssh-keyscan", "-T", WAIT, "-t", "ed25519", "-p", port, "-f", "-", NULL);
    g_autoptr(GString) input = g_string_new(NULL);
    g_autoptr(GBytes) out = NULL;
    g_autoptr(GBytes) complaints = NULL;

    for (guint i = 0; i < scan->hosts->len; i++)
        g_string_append_printf(input, "%s\n", (const char *)scan->hosts->pdata[i]);
    g_autoptr(GBytes) in = g_bytes_new(input->str, input->len);
    if (keyscan == NULL || !g_subprocess_communicate(keyscan, in, NULL, &out, &complaints, &error)) {
        cbus_cli_complain("ssh-keyscan can not be used (it comes with OpenSSH's client): %s", error->message);
        return FALSE;
    }
    g_autofree char *lines = text_of(out);
    g_autofree char *reasons = text_of(complaints);
    take_lines(scan, lines);
    relay_complaints(reasons);
    return TRUE;
}

/* "SHA256:…", as ssh-keygen -l. (transfer full) */
static char *
fingerprint(const CbusKey *key)
{
    guint8 blob[CBUS_SSH_BLOB_BYTES], digest[32];
    gsize len = sizeof digest;
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);

    cbus_ssh_blob_encode(key, blob);
    g_checksum_update(checksum, blob, sizeof blob);
    g_checksum_get_digest(checksum, digest, &len);
    g_autofree char *base64 = g_base64_encode(digest, sizeof digest);
    base64[strcspn(base64, "=")] = '\0';
    return g_strconcat("SHA256:", base64, NULL);
}

static gboolean
find_key(const Scan *scan, const char *host, CbusKey *key, GError **error)
{
    g_autofree char *name = label(scan, host);
    const char *line = g_hash_table_lookup(scan->lines, name);

    if (line != NULL)
        return cbus_public_key_parse(line, -1, key, error);
    g_set_error(error, CBUS_KEY_ERROR, CBUS_KEY_ERROR_FORMAT,
                "no ed25519 host key came from port %d; is sshd there, and does it have one?", scan->port);
    return FALSE;
}

static void
append_member(GString *out, const char *name, const char *value)
{
    g_string_append_printf(out, ",\"%s\":", name);
    cbus_json_append_string(out, value);
}

/* Tells what became of HOST; appends to JSON if there is one. */
static gboolean
report(const Scan *scan, const char *host, GString *json)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *print = NULL;
    char nkey[CBUS_NKEY_LENGTH + 1];
    CbusKey key;
    gboolean good = find_key(scan, host, &key, &error);

    if (good) {
        cbus_nkey_encode(&key, nkey);
        print = fingerprint(&key);
        g_printerr("256 %s %s (ED25519)\n", print, host);
    } else {
        cbus_cli_complain("%s: %s", host, error->message);
    }
    if (json != NULL) {
        g_string_append(json, json->len > 1 ? ",{\"host\":" : "{\"host\":");
        cbus_json_append_string(json, host);
        g_string_append_printf(json, ",\"ok\":%s", good ? "true" : "false");
        append_member(json, good ? "nkey" : "error", good ? nkey : error->message);
        if (good)
            append_member(json, "fingerprint", print);
        g_string_append_c(json, '}');
    } else if (good && scan->hosts->len == 1) {
        g_print("%s\n", nkey);
    } else if (good) {
        g_print("%s %s\n", host, nkey);
    }
    return good;
}

static CbusExit
run_scan(Scan *scan)
{
    g_autoptr(GString) json = scan->json ? g_string_new("[") : NULL;
    CbusExit status = CBUS_EXIT_OK;

    if (scan->hosts->len == 0) {
        cbus_cli_complain("no host to ask");
        return CBUS_EXIT_NOBODY;
    }
    if (!scan_hosts(scan))
        return CBUS_EXIT_FAILED;
    for (guint i = 0; i < scan->hosts->len; i++)
        if (!report(scan, scan->hosts->pdata[i], json))
            status = CBUS_EXIT_FAILED;
    if (json != NULL)
        fputs(g_string_append(json, "]\n")->str, stdout); /* UTF-8 in any locale */
    return status;
}

CbusExit
cbus_cli_keyscan(int argc, char **argv)
{
    g_autofree char *bus = NULL;
    g_autoptr(GPtrArray) hosts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) lines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    Scan scan = {.hosts = hosts, .lines = lines, .port = SSH_PORT};
    gboolean from_input = FALSE;
    const GOptionEntry entries[] = {
        {"port", 'p', 0, G_OPTION_ARG_INT, &scan.port, "Where their sshd listens (default: 22)", "N"},
        {"stdin", 0, 0, G_OPTION_ARG_NONE, &from_input, "Read more hosts from standard input, one a line",
         NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &scan.json, "Print JSON", NULL},
        CBUS_BUS_OPTION_UNUSED(&bus),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new("HOST… - print the NKeys of machines");

    g_option_context_add_main_entries(context, entries, NULL);
    if (!cbus_cli_parse(context, &argc, &argv, 0, G_MAXINT))
        return CBUS_EXIT_USAGE;
    if (scan.port < 1 || scan.port > 65535) {
        cbus_cli_complain("--port %d: a port is between 1 and 65535", scan.port);
        return CBUS_EXIT_USAGE;
    }
    if (argc == 1 && !from_input) {
        cbus_cli_complain("too few arguments: name a host, or give --stdin");
        return CBUS_EXIT_USAGE;
    }
    for (int i = 1; i < argc; i++)
        if (!add_host(&scan, argv[i]))
            return CBUS_EXIT_USAGE;
    if (from_input && !read_hosts(&scan))
        return CBUS_EXIT_USAGE;
    cbus_crypto_init();
    return run_scan(&scan);
}
