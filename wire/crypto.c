/* The one place that initialises libsodium.
 *
 * Promise: after cbus_crypto_init() every libsodium function may be called from any thread, with the fastest
 * implementation the processor has. Whoever needs libsodium calls it first, so that neither a program nor a
 * test has to remember it: there is no order of initialisation to get wrong.
 *
 * Trust: the kernel's random numbers. sodium_init() fails only when there are none (no getrandom() and no
 * /dev/urandom), and then no key could be made and no instance named; ending the process at once is the only
 * honest answer, so this returns nothing to check.
 *
 * Threads: any; GLib's once-lock makes the first caller initialise and the others wait. */
#include "wire/crypto.h"

#include <glib.h>
#include <sodium.h>

void
cbus_crypto_init(void)
{
    static gsize ready;
    if (g_once_init_enter(&ready)) {
        if (sodium_init() < 0)
            g_error("libsodium can not start: the system gives no random numbers");
        g_once_init_leave(&ready, 1);
    }
}
