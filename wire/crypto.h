/* libsodium made ready, in one place. */
#pragma once

/* Any thread, any number of times; cheap after the first. Ends the process if libsodium finds no source of
 * randomness: nothing of CBus may run without one. */
void cbus_crypto_init(void);

/* What libsodium derives, it leaves on the stack too (crypto_kdf_derive_from_key of 1.0.18: its whole
 * output). So many bytes below a function that derived keys are wiped with sodium_stackzero(). */
#define CBUS_STACK_WIPED 4096
