/* An ONNX Runtime with a GPU, for a machine without one: the real library, whose providers "cuda" and "tensorrt" and
 * their memory are the CPU's. tests/cli/gpu.rs compiles it; the macros are places in the table of ONNX Runtime's functions. The
 * environment says what goes wrong, in the words of ONNX Runtime:
 *
 *   GPU_REAL      the real library
 *   GPU_LOAD      CUDA cannot be loaded, with this text
 *   GPU_RUNS      "FIRST LAST TEXT": these runs fail, counted from 1
 *   GPU_HANGS     this run and all later ones never end
 *   GPU_STALE     a captured graph computes what it computed when it was captured: "always", or "thread" on all threads
 *                 but the one that captured it
 *   GPU_LEAVES    a node that the GPU does not take
 *   GPU_BUILDS    a file that gets a line for each engine that TensorRT builds
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void *status;
typedef const void *call;
struct base {
    const call *(*api)(uint32_t);
    const char *(*version)(void);
};

static call table[FUNCTIONS];
static const call *real;

static status fail(const char *text) { return ((status(*)(int, const char *))real[CREATE_STATUS])(1, text); }

static status ok(void) { return NULL; }

/* Options of a provider are never looked into. */
static status create(void **options) {
    *options = table;
    return NULL;
}

static status list(char ***names, int *count) {
    static char *all[] = {"TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"};
    *names = all;
    *count = 3;
    return NULL;
}

static status append_cuda(void *options, const void *provider) {
    (void)options, (void)provider;
    const char *text = getenv("GPU_LOAD");
    return text ? fail(text) : NULL;
}

/* The folder of engines of the next session. */
static char cache[4096];

/* Whether the next session captures its runs. */
static int captures;

static status cuda(void *options, const char *const *keys, const char *const *values, size_t count) {
    (void)options;
    for (size_t i = 0; i < count; i++)
        if (!strcmp(keys[i], "enable_cuda_graph")) captures = !strcmp(values[i], "true");
    return NULL;
}

/* The GPU's memory and pinned memory are the CPU's. */
static status allocator(const void *session, const void *memory, void **out) {
    const char *name = "";
    ((status(*)(const void *, const char **))real[NAME])(memory, &name);
    if (strncmp(name, "Cuda", 4)) return ((status(*)(const void *, const void *, void **))real[ALLOCATOR])(session, memory, out);
    void *host;
    status failed = ((status(*)(int, int, void **))real[HOST_MEMORY])(0, 0, &host);
    if (failed) return failed;
    failed = ((status(*)(const void *, const void *, void **))real[ALLOCATOR])(session, host, out);
    ((void (*)(void *))real[RELEASE_MEMORY])(host);
    return failed;
}

static status tensorrt(void *options, const char *const *keys, const char *const *values, size_t count) {
    (void)options;
    cache[0] = 0;
    for (size_t i = 0; i < count; i++)
        if (!strcmp(keys[i], "trt_engine_cache_path")) snprintf(cache, sizeof cache, "%s/part.engine", values[i]);
    return NULL;
}

static status configure(void *options, const char *key, const char *value) {
    /* All nodes are on the CPU. */
    if (!strcmp(key, "session.disable_cpu_ep_fallback") && !getenv("GPU_LEAVES")) return NULL;
    return ((status(*)(void *, const char *, const char *))real[CONFIGURE])(options, key, value);
}

typedef void (*logger)(void *, int, const char *, const char *, const char *, const char *);
static logger told;
static void *listener;

static void ignore(void *p, int level, const char *a, const char *b, const char *c, const char *d) {
    (void)p, (void)level, (void)a, (void)b, (void)c, (void)d;
}

/* The real placements are all the CPU's. */
static status listen(void *options, logger function, void *parameter) {
    told = function;
    listener = parameter;
    return ((status(*)(void *, logger, void *))real[LISTEN])(options, ignore, NULL);
}

static void tell(const char *text) { told(listener, 0, "onnxruntime", "", "session_state.cc", text); }

/* As TensorRT: an engine on disk must be whole, and a new one is written in place. */
static status engine(void) {
    char text[8] = "";
    FILE *file = fopen(cache, "r");
    if (file) {
        size_t length = fread(text, 1, 6, file);
        fclose(file);
        return length == 6 && !strcmp(text, "engine")
                   ? NULL
                   : fail("TensorRT EP failed to deserialize engine from cache: part.engine");
    }
    const char *builds = getenv("GPU_BUILDS");
    FILE *log = builds ? fopen(builds, "a") : NULL;
    if (log) {
        fputs("built\n", log);
        fclose(log);
    }
    file = fopen(cache, "w");
    if (!file) return NULL;
    fputs("eng", file);
    fflush(file);
    usleep(500000);
    fputs("ine", file);
    fclose(file);
    return NULL;
}

/* Sessions whose captured graph no longer sees its inputs, and their bound runs so far. */
enum { STALE = 64 };
static void *stale[STALE];
static int stales, ran[STALE], owner[STALE];

static status session(const void *env, const void *model, size_t length, const void *options, void **out) {
    if (cache[0]) {
        status failed = engine();
        cache[0] = 0;
        if (failed) return failed;
    }
    const char *leaves = getenv("GPU_LEAVES");
    if (told && leaves) {
        char line[200];
        tell("Node placements");
        tell(" Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 1");
        tell("  Conv (/stem/conv)");
        tell(" Node(s) placed on [CPUExecutionProvider]. Number of nodes: 1");
        snprintf(line, sizeof line, "  %s", leaves);
        tell(line);
    }
    told = NULL;
    status failed = ((status(*)(const void *, const void *, size_t, const void *, void **))real[SESSION])(
        env, model, length, options, out);
    if (captures && !failed && getenv("GPU_STALE")) {
        owner[stales % STALE] = gettid();
        stale[stales++ % STALE] = *out;
    }
    captures = 0;
    return failed;
}

/* The error of this run, if it fails. */
static status lost(void) {
    static int runs;
    const char *plan = getenv("GPU_RUNS");
    int first, last, text;
    int now = __atomic_add_fetch(&runs, 1, __ATOMIC_RELAXED);
    const char *hangs = getenv("GPU_HANGS");
    while (hangs && now >= atoi(hangs)) pause();
    if (!plan || sscanf(plan, "%d %d %n", &first, &last, &text) < 2) return NULL;
    return now >= first && now <= last ? fail(plan + text) : NULL;
}

static status run(void *session, const void *options, const char *const *inputs, const void *const *values,
                  size_t in, const char *const *outputs, size_t out, void **results) {
    status failed = lost();
    return failed ? failed
                  : ((status(*)(void *, const void *, const char *const *, const void *const *, size_t,
                                const char *const *, size_t, void **))real[RUN])(session, options, inputs, values, in,
                                                                                 outputs, out, results);
}

static status run_bound(void *session, const void *options, const void *binding) {
    status failed = lost();
    const char *when = getenv("GPU_STALE");
    for (int i = 0; when && i < STALE; i++)
        if (stale[i] == session && ran[i]++ && (strcmp(when, "thread") || owner[i] != gettid())) return failed;
    return failed ? failed
                  : ((status(*)(void *, const void *, const void *))real[RUN_BOUND])(session, options, binding);
}

static const struct base *library(void) {
    void *handle = dlopen(getenv("GPU_REAL"), RTLD_NOW | RTLD_LOCAL);
    return handle ? ((const struct base *(*)(void))dlsym(handle, "OrtGetApiBase"))() : NULL;
}

static const call *api(uint32_t version) {
    real = library()->api(version);
    if (!real) return NULL;
    memcpy(table, real, sizeof table);
    table[LIST] = list;
    table[RELEASE_LIST] = ok;
    table[CREATE_CUDA] = table[CREATE_TENSORRT] = create;
    table[UPDATE_CUDA] = cuda;
    table[ALLOCATOR] = allocator;
    table[RELEASE_CUDA] = table[RELEASE_TENSORRT] = table[APPEND_TENSORRT] = ok;
    table[APPEND_CUDA] = append_cuda;
    table[UPDATE_TENSORRT] = tensorrt;
    table[CONFIGURE] = configure;
    table[LISTEN] = listen;
    table[SESSION] = session;
    table[RUN] = run;
    table[RUN_BOUND] = run_bound;
    return table;
}

static const char *version(void) { return library()->version(); }

const struct base *OrtGetApiBase(void) {
    static const struct base base = {api, version};
    return &base;
}
