/* cbus-agent --check-policy: may this key do that? */
#pragma once
#include <glib.h>

#define CBUS_QUESTION_WORDS 5

/* Takes "--check-policy KEY DEST PATH INTERFACE MEMBER" out of the arguments. FALSE: it is not among them, or
 * with fewer words; then nothing is taken. */
gboolean cbus_check_policy_take(int *argc, char **argv, const char *question[CBUS_QUESTION_WORDS]);
/* Says on standard output what the files decide, and by which line. Returns the exit status: 0 allowed, 1
 * denied or a file can not be read, 2 a question that makes no sense. */
int cbus_check_policy(const char *authorized_keys, const char *config,
                      const char *const question[CBUS_QUESTION_WORDS]);
