# Asio and Beast are compiled once, here, instead of in every file that includes them: the
# separate-compilation switches halve what a file with a socket costs to build.
find_package(Boost 1.81 REQUIRED COMPONENTS json)
add_library(mlxs_boost STATIC ${CMAKE_SOURCE_DIR}/cmake/boost_impl.cpp)
target_compile_definitions(mlxs_boost PUBLIC
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED)
target_link_libraries(mlxs_boost PUBLIC Boost::json Threads::Threads)
