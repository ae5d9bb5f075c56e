// libmlx brings the slow reference BLAS along; ours has to win at run time.

#include <gtest/gtest.h>
#include <mlx/ops.h>
#include <mlx/transforms.h>
#include <mlx/version.h>

#include <dlfcn.h>
#include <link.h>

#include <cstring>
#include <string>

namespace mlxs::engine {
namespace {

std::string library_of(const void* address) {
  Dl_info info{};
  return dladdr(address, &info) != 0 ? info.dli_fname : "";
}

TEST(Blas, TheProgramsSgemmIsOpenBlas) {
  const void* sgemm = dlsym(RTLD_DEFAULT, "cblas_sgemm");
  ASSERT_NE(sgemm, nullptr);
  EXPECT_NE(library_of(sgemm).find("openblas"), std::string::npos) << library_of(sgemm);
  EXPECT_NE(dlsym(RTLD_DEFAULT, "openblas_get_config"), nullptr);
}

/// Where libmlx's own entry for `symbol` points once it is bound.
struct Search {
  const char* symbol;
  const void* target = nullptr;
};

int find_entry(dl_phdr_info* library, std::size_t, void* data) {
  auto& search = *static_cast<Search*>(data);
  if (std::strstr(library->dlpi_name, "libmlx.so") == nullptr) return 0;
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    if (library->dlpi_phdr[i].p_type == PT_DYNAMIC) {
      dynamic =
          reinterpret_cast<const ElfW(Dyn)*>(library->dlpi_addr + library->dlpi_phdr[i].p_vaddr);
    }
  }
  const char* strings = nullptr;
  const ElfW(Sym)* symbols = nullptr;
  const ElfW(Rela) * relocations[2] = {};
  std::size_t sizes[2] = {};
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    const auto pointer = dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(pointer);
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(pointer);
    if (dynamic->d_tag == DT_JMPREL) relocations[0] = reinterpret_cast<const ElfW(Rela)*>(pointer);
    if (dynamic->d_tag == DT_PLTRELSZ) sizes[0] = dynamic->d_un.d_val;
    if (dynamic->d_tag == DT_RELA) relocations[1] = reinterpret_cast<const ElfW(Rela)*>(pointer);
    if (dynamic->d_tag == DT_RELASZ) sizes[1] = dynamic->d_un.d_val;
  }
  for (int kind = 0; kind < 2; ++kind) {
    for (std::size_t i = 0; i < sizes[kind] / sizeof(ElfW(Rela)); ++i) {
      const ElfW(Rela)& entry = relocations[kind][i];
      const auto index = ELF64_R_SYM(entry.r_info);
      if (std::strcmp(strings + symbols[index].st_name, search.symbol) != 0) continue;
      search.target = *reinterpret_cast<void* const*>(library->dlpi_addr + entry.r_offset);
    }
  }
  return 1;
}

TEST(Blas, LibmlxCallsTheSameOne) {
  // A product through MLX itself binds its entry, should that be lazy.
  mlx::core::array c = mlx::core::matmul(mlx::core::ones({4, 4}), mlx::core::ones({4, 4}));
  mlx::core::eval(c);
  Search search{"cblas_sgemm"};

  dl_iterate_phdr(find_entry, &search);

  EXPECT_EQ(search.target, dlsym(RTLD_DEFAULT, "cblas_sgemm")) << library_of(search.target);
}

}  // namespace
}  // namespace mlxs::engine
