/* known_machines: every pin is found by its key and by its name, both are its own, and no name passes for a
 * key.
 */
#include "tests/fuzz/fuzz.h"
#include "wire/known_machines.h"
#include <string.h>

static void
on_fault(guint line, const GError *error, gpointer user_data)
{
    FUZZ_CHECK(error != NULL && error->message[0] != '\0');
}

int
LLVMFuzzerTestOneInput(const guint8 *data, gsize len)
{
    g_autoptr(CbusKnownMachines) known = cbus_known_machines_parse((const char *)data, len, on_fault, NULL);
    guint size = cbus_known_machines_size(known), line = 0;

    FUZZ_CHECK(size <= CBUS_KNOWN_MACHINES_MAX);
    for (guint i = 0; i < size; i++) {
        const CbusKnownMachine *machine = cbus_known_machines_get(known, i);
        FUZZ_CHECK(machine->line > line);
        line = machine->line;
        FUZZ_CHECK(cbus_machine_name_check(machine->name, strlen(machine->name), NULL));
        FUZZ_CHECK(cbus_known_machines_by_key(known, &machine->key) == machine);
        FUZZ_CHECK(cbus_known_machines_by_name(known, machine->name) == machine);
        FUZZ_CHECK(cbus_known_machines_resembling(known, machine->name) != NULL);
        for (char **tag = machine->tags; tag != NULL && *tag != NULL; tag++)
            FUZZ_CHECK(**tag != '\0');
    }
    return 0;
}
