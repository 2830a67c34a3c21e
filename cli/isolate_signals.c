/* What would reach this host's init by a signal.
 *
 * Where a bus does not answer, `telinit q` and `telinit u` send SIGHUP and SIGTERM to process 1, which is the
 * local systemd: root keeps his uid in the namespaces of cbus run (cli/isolate.c), and that suffices for
 * kill(2). So signals to process 1 are refused with EPERM, and those to process −1, all processes but that
 * one, too: in a shell whose prompt names another machine that is a mistake.
 *
 * Why no namespace of processes instead. It would need a process between the caller and the command, to be
 * its init and to stand for it in the caller's job control; a fresh /proc, which a user namespace may not
 * mount in most containers; and the user's own processes would be out of reach, though the command may do
 * with them what the user may. The command would not be the process that was started any more, whose exit
 * status, signals and terminal are its own.
 *
 * The filter looks at the native system calls alone: a program of another architecture is not kept from it.
 * This is no prison (cli/isolate.c). One thread, before exec. */
#include "cli/isolate_signals.h"

#include "cli/isolate.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define NATIVE AUDIT_ARCH_ARM
#elif defined(__i386__)
#define NATIVE AUDIT_ARCH_I386
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && G_BYTE_ORDER == G_LITTLE_ENDIAN
#define NATIVE AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define NATIVE AUDIT_ARCH_S390X
#else
#error "name this architecture's AUDIT_ARCH here"
#endif

/* The lower half of a call's first argument: every one of these calls takes an int there. */
#define FIRST_ARGUMENT (offsetof(struct seccomp_data, args) + (G_BYTE_ORDER == G_BIG_ENDIAN ? 4 : 0))

#define LOAD(offset)            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (guint32)(offset))
#define IF_EQUAL(value, jt, jf) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (guint32)(value), (jt), (jf))
#define RETURN(value)           BPF_STMT(BPF_RET | BPF_K, (value))

gboolean
cbus_isolate_signals(GError **error)
{
    struct sock_filter program[] = {
        LOAD(offsetof(struct seccomp_data, arch)),
        IF_EQUAL(NATIVE, 0, 11), /* to the last line */
        LOAD(offsetof(struct seccomp_data, nr)),
        IF_EQUAL(SYS_kill, 5, 0), /* to the argument */
        IF_EQUAL(SYS_tkill, 4, 0),
        IF_EQUAL(SYS_tgkill, 3, 0),
        IF_EQUAL(SYS_rt_sigqueueinfo, 2, 0),
        IF_EQUAL(SYS_rt_tgsigqueueinfo, 1, 0),
        IF_EQUAL(SYS_pidfd_open, 0, 4),
        LOAD(FIRST_ARGUMENT),
        IF_EQUAL(1, 1, 0),
        IF_EQUAL(-1, 0, 1),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
        RETURN(SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = G_N_ELEMENTS(program), .filter = program};

    /* Without the flag some kernels make every branch of the command slow. */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter) == 0)
        return TRUE;
    g_set_error(error, CBUS_ISOLATE_ERROR, CBUS_ISOLATE_ERROR_NAMESPACE,
                "can not keep the command's signals from this host's init: %s", g_strerror(errno));
    return FALSE;
}
