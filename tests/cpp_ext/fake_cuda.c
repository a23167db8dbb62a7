/* A CUDA driver that only writes down what it is asked, into the file named by FAKE_CUDA_LOG. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static int say(const char *line) {
  FILE *f = fopen(getenv("FAKE_CUDA_LOG"), "a");
  fprintf(f, "%s\n", line);
  fclose(f);
  const char *bad = getenv("FAKE_CUDA_FAIL");
  return bad && !strncmp(line, bad, strlen(bad)) ? 218 : 0;
}
EXPORT int cuInit(unsigned flags) { return (void)flags, say("cuInit"); }
EXPORT int cuDeviceGet(int *d, int n) { return *d = n, say("cuDeviceGet"); }
EXPORT int cuDevicePrimaryCtxRetain(void **c, int d) { return (void)d, *c = (void *)1, say("retain"); }
EXPORT int cuDevicePrimaryCtxRelease_v2(int d) { return (void)d, say("release"); }
EXPORT int cuCtxSetCurrent(void *c) { return (void)c, say("current"); }
EXPORT int cuModuleLoadData(void **m, const void *image) { return (void)image, *m = (void *)2, say("load"); }
EXPORT int cuModuleUnload(void *m) { return (void)m, say("unload"); }
EXPORT int cuModuleGetFunction(void **f, void *m, const char *name) {
  char line[128];
  (void)m, *f = (void *)3;
  snprintf(line, sizeof line, "find %s", name);
  return say(line);
}
EXPORT int cuFuncSetAttribute(void *f, int what, int value) {
  char line[128];
  (void)f;
  snprintf(line, sizeof line, "attribute %d %d", what, value);
  return say(line);
}
EXPORT int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, void *stream, void **arguments, void **extra) {
  char line[256];
  (void)f, (void)extra;
  snprintf(line, sizeof line, "launch %u,%u,%u x %u,%u,%u shared %u stream %llu: %llx %llx %d %llu %llu", gx, gy, gz,
           bx, by, bz, shared, (unsigned long long)stream, *(unsigned long long *)arguments[0],
           *(unsigned long long *)arguments[1], *(int *)arguments[2], *(unsigned long long *)arguments[3],
           *(unsigned long long *)arguments[4]);
  return say(line);
}
