#include "launcher.hpp"

#include <dlfcn.h>

#include <fstream>
#include <iterator>
#include <stdexcept>

namespace ossicle {

using Result = int;  // CUresult; 0 is success

struct CubinLauncher::Driver {
  void* library;
  Result (*init)(unsigned);
  Result (*device)(int*, int);
  Result (*retain)(void**, int);
  Result (*release)(int);
  Result (*current)(void*);
  Result (*load)(void**, const void*);
  Result (*unload)(void*);
  Result (*find)(void**, void*, const char*);
  Result (*attribute)(void*, int, int);
  Result (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                   void**);
};

namespace {

constexpr int kDynamicShared = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

void must(Result code, const char* call) {
  if (code) throw std::runtime_error(std::string(call) + " failed with CUDA error " + std::to_string(code));
}

template <class F>
void resolve(void* library, const char* name, F& out) {
  void* found = dlsym(library, name);
  if (!found) throw std::runtime_error(std::string("the CUDA driver lacks ") + name);
  out = reinterpret_cast<F>(found);
}

}  // namespace

CubinLauncher::CubinLauncher(const std::string& cubin, const std::string& library) {
  std::ifstream file(cubin, std::ios::binary);
  const std::string image((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (image.size() < 4 || image.compare(0, 4, "\x7f" "ELF") != 0)
    throw std::runtime_error("'" + cubin + "' is missing or not a cubin");
  void* opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!opened) throw std::runtime_error("'" + library + "' cannot be opened: is the CUDA driver installed?");
  driver_ = new Driver{};
  driver_->library = opened;
  bool retained = false;
  try {
    Driver& d = *driver_;
    resolve(opened, "cuInit", d.init);
    resolve(opened, "cuDeviceGet", d.device);
    resolve(opened, "cuDevicePrimaryCtxRetain", d.retain);
    resolve(opened, "cuDevicePrimaryCtxRelease_v2", d.release);
    resolve(opened, "cuCtxSetCurrent", d.current);
    resolve(opened, "cuModuleLoadData", d.load);
    resolve(opened, "cuModuleUnload", d.unload);
    resolve(opened, "cuModuleGetFunction", d.find);
    resolve(opened, "cuFuncSetAttribute", d.attribute);
    resolve(opened, "cuLaunchKernel", d.launch);
    void* context = nullptr;
    must(d.init(0), "cuInit");
    must(d.device(&device_, 0), "cuDeviceGet");
    must(d.retain(&context, device_), "cuDevicePrimaryCtxRetain");
    retained = true;
    must(d.current(context), "cuCtxSetCurrent");
    must(d.load(&module_, image.data()), "cuModuleLoadData");
  } catch (...) {
    if (retained) driver_->release(device_);
    dlclose(opened);
    delete driver_;
    throw;
  }
}

CubinLauncher::~CubinLauncher() {
  driver_->unload(module_);
  driver_->release(device_);
  dlclose(driver_->library);
  delete driver_;
}

void* CubinLauncher::function(const std::string& name, unsigned shared) {
  const auto known = functions_.find(name);
  if (known != functions_.end()) return known->second;
  void* found = nullptr;
  must(driver_->find(&found, module_, name.c_str()), "cuModuleGetFunction");
  if (shared > 48 * 1024)  // more than the default has to be asked for
    must(driver_->attribute(found, kDynamicShared, static_cast<int>(shared)), "cuFuncSetAttribute");
  return functions_[name] = found;
}

void CubinLauncher::launch(const std::string& name, std::array<unsigned, 3> grid, unsigned warps, unsigned shared,
                           const std::vector<std::uint64_t>& pointers, const std::vector<std::int32_t>& integers,
                           std::uint64_t stream) {
  if (!grid[0] || !grid[1] || !grid[2] || !warps || warps > 32)
    throw std::invalid_argument("a grid must not be empty and a program has 1 to 32 warps");
  std::vector<std::uint64_t> first = pointers;
  std::vector<std::int32_t> second = integers;
  std::uint64_t scratch[2] = {0, 0};
  std::vector<void*> arguments;
  for (auto& p : first) arguments.push_back(&p);
  for (auto& i : second) arguments.push_back(&i);
  for (auto& s : scratch) arguments.push_back(&s);
  must(driver_->launch(function(name, shared), grid[0], grid[1], grid[2], 32 * warps, 1, 1, shared,
                       reinterpret_cast<void*>(stream), arguments.data(), nullptr),
       "cuLaunchKernel");
}

}  // namespace ossicle
