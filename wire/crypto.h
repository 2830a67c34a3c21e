/* libsodium made ready, in one place. */
#pragma once

/* Any thread, any number of times; cheap after the first. Ends the process if libsodium finds no source of
 * randomness: nothing of CBus may run without one. */
void cbus_crypto_init(void);
