/*
 * Runs a program and kills it with all its descendants, at once, by SIGKILL: as it is about to make, or has just made,
 * the n-th system call of a kind, counted over the whole tree, or after a time. It is a debugger (ptrace), so nothing in
 * the program has to help, and a filter (seccomp) lets it see only the calls that it asks for.
 *
 *     killer LOG KIND before|after N -- PROGRAM ARGUMENTS…     N = 0: never, and LOG says how many of each kind there were
 *     killer LOG time after MILLISECONDS -- PROGRAM ARGUMENTS…
 *
 * KIND: open (for writing), rename, link, symlink, unlink, mkdir, sync, exec, or write and wsync: those of the journal.
 * `rename=/bridge/` are those of a path with `/bridge/` in it. LOG: one line that tells at what it killed. Exit code: 99 after
 * a kill, else that of the program.
 *
 * A Python in a session of its own is to outlive the program, and is spared. The filter needs a debugger for as long as it
 * lives, so a child of this process is the debugger, and outlives it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOURNAL "/journal.jsonl"
#define MOST 4096

enum { OPEN, RENAME, LINK, SYMLINK, UNLINK, MKDIR, SYNC, EXEC, WRITE, WSYNC, TIME, KINDS };
static const char *names[] = {"open", "rename", "link", "symlink", "unlink", "mkdir",
                              "sync", "exec", "write", "wsync", "time"};

/* Which argument is the path (from 0; -1: argument 0 is a descriptor), and for `open` which one holds the flags. */
static const struct { int number, kind, path, flags; } calls[] = {
#ifdef SYS_open
    {SYS_open, OPEN, 0, 1}, {SYS_creat, OPEN, 0, -1}, {SYS_rename, RENAME, 1, -1}, {SYS_link, LINK, 1, -1},
    {SYS_symlink, SYMLINK, 1, -1}, {SYS_unlink, UNLINK, 0, -1}, {SYS_rmdir, UNLINK, 0, -1}, {SYS_mkdir, MKDIR, 0, -1},
#endif
#ifdef SYS_renameat
    {SYS_renameat, RENAME, 3, -1},
#endif
    {SYS_openat, OPEN, 1, 2}, {SYS_renameat2, RENAME, 3, -1}, {SYS_linkat, LINK, 3, -1},
    {SYS_symlinkat, SYMLINK, 2, -1}, {SYS_unlinkat, UNLINK, 1, -1}, {SYS_mkdirat, MKDIR, 1, -1},
    {SYS_fsync, SYNC, -1, -1}, {SYS_fdatasync, SYNC, -1, -1}, {SYS_syncfs, SYNC, -1, -1},
    {SYS_write, WRITE, -1, -1},
    {SYS_execve, EXEC, 0, -1}, {SYS_execveat, EXEC, 1, -1},
};
enum { CALLS = sizeof calls / sizeof *calls };

static int kind, after, result[2];
static const char *part;
static long wanted;
static volatile sig_atomic_t late;
static pid_t tree[MOST];
static int alive;

static void die(const char *what) { perror(what); exit(98); }
static void on_alarm(int signal) { (void)signal; late = 1; }

/* Lets the kernel stop the program at these calls; all others run at full speed. */
static void filter(void) {
    struct sock_filter code[4 * CALLS + 8];
    int n = 0, journal = kind == WRITE || kind == WSYNC;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS && kind != TIME; i++) {
        if (journal ? calls[i].kind != WRITE && calls[i].kind != SYNC : calls[i].kind == WRITE) continue;
        if (calls[i].flags < 0) {
            code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 1);
            code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
            continue;
        }
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 4);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                 offsetof(struct seccomp_data, args[0]) + 8 * calls[i].flags);
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) die("seccomp");
}

/* Says what file a call is about. */
static void path_of(pid_t pid, const struct __ptrace_syscall_info *info, int argument, char *text, size_t size) {
    memset(text, 0, size);
    if (argument < 0) {
        char link[64];
        snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, (int)info->seccomp.args[0]);
        if (readlink(link, text, size - 1) < 0) text[0] = 0;
        return;
    }
    struct iovec here = {text, size - 1}, there = {(void *)info->seccomp.args[argument], size - 1};
    if (process_vm_readv(pid, &here, 1, &there, 1, 0) < 0) {
        /* Near the end of a page. */
        here.iov_len = there.iov_len = 4096 - info->seccomp.args[argument] % 4096 < size - 1
                                           ? 4096 - info->seccomp.args[argument] % 4096 : size - 1;
        process_vm_readv(pid, &here, 1, &there, 1, 0);
    }
}

static void comm(pid_t pid, char *name, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/comm", pid);
    name[0] = 0;
    FILE *file = fopen(link, "r");
    if (file) { if (fgets(name, (int)size, file)) name[strcspn(name, "\n")] = 0; fclose(file); }
}

static int spared(pid_t pid) {
    char name[64];
    if (getsid(pid) == getsid(0)) return 0;
    comm(pid, name, sizeof name);
    return !strncmp(name, "python", 6);
}

static void end(FILE *log, pid_t pid, const char *text) {
    char name[64];
    comm(pid, name, sizeof name);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    for (int i = 0; i < alive; i++) if (!spared(tree[i])) kill(tree[i], SIGKILL);
    fprintf(log, "%s of `%s`\n", text, name);
    fflush(log);
}

static void add(pid_t pid) {
    for (int i = 0; i < alive; i++) if (tree[i] == pid) return;
    if (alive < MOST) tree[alive++] = pid;
}

/* Says with what code it ended. */
static void report(int code) {
    prctl(PR_SET_PDEATHSIG, 0);
    if (write(result[1], &code, sizeof code) != sizeof code) die("write");
    close(result[1]);
}

static int none_left(void) {
    for (int i = 0; i < alive; i++) if (!spared(tree[i])) return 0;
    return 1;
}

int main(int count, char **arguments) {
    if (count < 7) return 98;
    FILE *log = fopen(arguments[1], "w");
    if (!log) die(arguments[1]);
    char *equals = strchr(arguments[2], '=');
    if (equals) { *equals = 0; part = equals + 1; }
    for (kind = 0; kind < KINDS && strcmp(names[kind], arguments[2]); kind++) {}
    after = !strcmp(arguments[3], "after");
    wanted = atol(arguments[4]);

    if (pipe2(result, O_CLOEXEC)) die("pipe");
    pid_t debugger = fork();
    if (debugger < 0) die("fork");
    if (debugger > 0) {
        int told = 98;
        close(result[1]);
        while (read(result[0], &told, sizeof told) < 0 && errno == EINTR) {}
        return told;
    }
    close(result[0]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);

    int gate[2];
    if (pipe2(gate, O_CLOEXEC)) die("pipe");
    pid_t root = fork();
    if (root < 0) die("fork");
    if (root == 0) {
        char go;
        close(gate[1]);
        if (read(gate[0], &go, 1) != 1) exit(98);
        filter();
        execvp(arguments[6], arguments + 6);
        die(arguments[6]);
    }
    long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK |
                   PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    if (ptrace(PTRACE_SEIZE, root, 0, options)) die("ptrace");
    if (kind == TIME) {
        struct sigaction action = {.sa_handler = on_alarm};
        sigaction(SIGALRM, &action, NULL);
        /* Again and again: the first signal may come between a look at `late` and a wait. */
        struct itimerval timer = {.it_interval = {0, 10000}, .it_value = {wanted / 1000, wanted % 1000 * 1000 + 1}};
        setitimer(ITIMER_REAL, &timer, NULL);
    }
    if (write(gate[1], "", 1) != 1) die("write");
    tree[alive++] = root;

    long seen[KINDS] = {0}, matching = 0;
    int code = 98, over = 0, reported = 0;
    pid_t hit = 0;
    char told[1200] = "";
    for (;;) {
        int status, stop = 0;
        if (late && !over++) end(log, root, "after some time");
        int gone = none_left();
        pid_t pid = gone && !reported ? 0 : waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR) continue;
        /* A process whose end came before its birth was told is in the tree for good. */
        if (!reported && (gone || pid < 0)) {
            reported = 1;
            for (int i = 0; i < KINDS && !over; i++) fprintf(log, "%s %ld\n", names[i], seen[i]);
            fflush(log);
            report(over ? 99 : code);
            if (pid == 0) continue;
        }
        if (pid < 0) break;
        if (pid == hit && !over++) end(log, pid, told);
        if (!WIFSTOPPED(status)) {
            if (pid == root) code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            for (int i = 0; i < alive; i++)
                if (tree[i] == pid) tree[i--] = tree[--alive];
            continue;
        }
        if (over && !spared(pid)) {
            /* It was born meanwhile, stopped at its birth. */
            kill(pid, SIGKILL);
            add(pid);
            continue;
        }
        int event = status >> 16, signal = WSTOPSIG(status);
        struct __ptrace_syscall_info info;
        if (event == PTRACE_EVENT_SECCOMP && ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0) {
            int call = 0, this;
            while (call < CALLS && (unsigned long)calls[call].number != info.seccomp.nr) call++;
            if (call < CALLS) {
                char path[1024];
                this = calls[call].kind;
                path_of(pid, &info, calls[call].path, path, sizeof path);
                size_t length = strlen(path), end_of = strlen(JOURNAL);
                int journal = length > end_of && !strcmp(path + length - end_of, JOURNAL);
                if (this == WRITE && !journal) this = -1;
                if (this == SYNC && journal && (kind == WRITE || kind == WSYNC)) this = WSYNC;
                if (this >= 0) seen[this]++;
                if (!over && this == kind && (!part || strstr(path, part)) && ++matching == wanted) {
                    snprintf(told, sizeof told, "%s %s %ld, `%s`,", after ? "after" : "before", names[this], wanted, path);
                    if (after) {
                        hit = pid;
                        ptrace(PTRACE_SYSCALL, pid, 0, 0);
                        continue;
                    }
                    over = 1;
                    end(log, pid, told);
                    if (!spared(pid)) continue;
                }
            }
        } else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
            /* Its parent may end before it is seen itself. */
            unsigned long child = 0;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &child);
            if (!kill((pid_t)child, 0)) add((pid_t)child);
        } else if (event == PTRACE_EVENT_STOP) {
            add(pid);
        } else if (event == 0 && signal != (SIGTRAP | 0x80)) {
            stop = signal;
        }
        ptrace(PTRACE_CONT, pid, 0, stop);
    }
    return 0;
}
