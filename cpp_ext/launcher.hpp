// Launches kernels from cubins through the CUDA driver alone: no toolkit, Triton or Python on the device.
//
// libcuda is opened at run time, so this builds and loads on machines without it.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace ossicle {

class CubinLauncher {
 public:
  // Reads the file and loads it into the primary context of device 0.
  // Throws std::runtime_error naming the driver call that failed and its code.
  explicit CubinLauncher(const std::string& cubin, const std::string& library = "libcuda.so.1");
  ~CubinLauncher();
  CubinLauncher(const CubinLauncher&) = delete;
  CubinLauncher& operator=(const CubinLauncher&) = delete;

  // Arguments in the order of the kernel's signature: device pointers first, then 32-bit integers, then the
  // two scratch pointers that Triton kernels end with (null). Asynchronous on `stream`.
  void launch(const std::string& function, std::array<unsigned, 3> grid, unsigned warps, unsigned shared,
              const std::vector<std::uint64_t>& pointers, const std::vector<std::int32_t>& integers,
              std::uint64_t stream = 0);

 private:
  struct Driver;
  void* function(const std::string& name, unsigned shared);
  Driver* driver_ = nullptr;
  void* module_ = nullptr;
  int device_ = 0;
  std::unordered_map<std::string, void*> functions_;
};

}  // namespace ossicle
