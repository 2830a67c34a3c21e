/* cbus nkey: the NKey of a public key.
 *
 * `cbus nkey` prints the 56 characters that name a machine or an operator everywhere in CBus, and nothing
 * else, from whatever spelling of the public key somebody has at hand: the line of a .pub file or of
 * ssh-keyscan, its base64 alone, or an NKey, which is checked and echoed. It needs no proxy and no network.
 *
 * A private key is refused with a hint: who pipes one in by mistake should learn where its public half is,
 * and what was read is wiped. Input is bounded: a public key is a line, not a file system. What is wrong with
 * the key is told by wire/key.c; here it becomes exit status 2. */
#include "cli/cli.h"

#include "cli/bus.h"
#include "wire/crypto.h"
#include "wire/key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX (64 * 1024) /* no public key is as long */

/* Reads all of FD into BUFFER. Returns the length, or −1 with what is wrong told. */
static gssize
read_input(int fd, const char *name, char buffer[INPUT_MAX])
{
    gsize len = 0;

    for (;;) {
        gssize n = read(fd, buffer + len, INPUT_MAX - len);

        if (n == 0)
            return (gssize)len;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            cbus_cli_complain("can not read %s: %s", name, g_strerror(errno));
            return -1;
        }
        len += (gsize)n;
        if (len == INPUT_MAX) {
            cbus_cli_complain("%s is too long to be a public key", name);
            return -1;
        }
    }
}

static CbusExit
print_nkey(const char *text, gssize len)
{
    g_autoptr(GError) error = NULL;
    char nkey[CBUS_NKEY_LENGTH + 1];
    CbusKey key;

    if (!cbus_public_key_parse(text, len, &key, &error)) {
        cbus_cli_complain("%s", error->message);
        return CBUS_EXIT_USAGE;
    }
    cbus_nkey_encode(&key, nkey);
    g_print("%s\n", nkey);
    return CBUS_EXIT_OK;
}

static CbusExit
print_nkey_of_file(const char *path)
{
    char buffer[INPUT_MAX];
    CbusExit status = CBUS_EXIT_USAGE;
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    gssize len;

    if (fd < 0) {
        cbus_cli_complain("can not open %s: %s", path, g_strerror(errno));
        return CBUS_EXIT_USAGE;
    }
    if (path == NULL && isatty(fd))
        g_printerr("cbus: reading a public key from standard input\n");
    len = read_input(fd, path != NULL ? path : "standard input", buffer);
    if (path != NULL)
        close(fd);
    if (len >= 0)
        status = print_nkey(buffer, len);
    explicit_bzero(buffer, sizeof buffer);
    return status;
}

CbusExit
cbus_cli_nkey(int argc, char **argv)
{
    g_autofree char *bus = NULL;
    g_autofree char *key = NULL;
    g_autofree char *file = NULL;
    const GOptionEntry entries[] = {
        {"public-key", 0, 0, G_OPTION_ARG_STRING, &key,
         "The key itself: 'ssh-ed25519 AAAA…', its base64, or an NKey", "KEY"},
        {"public-key-file", 0, 0, G_OPTION_ARG_FILENAME, &file,
         "A file that holds it, such as id_ed25519.pub", "FILE"},
        CBUS_BUS_OPTION_UNUSED(&bus),
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- print the NKey of a public key");

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_description(context, "Without an option the key is read from standard input.");
    if (!cbus_cli_parse(context, &argc, &argv, 0, 0))
        return CBUS_EXIT_USAGE;
    if (key != NULL && file != NULL) {
        cbus_cli_complain("give either --public-key or --public-key-file");
        return CBUS_EXIT_USAGE;
    }
    cbus_crypto_init();
    return key != NULL ? print_nkey(key, -1) : print_nkey_of_file(file);
}
