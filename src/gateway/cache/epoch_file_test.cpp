#include "gateway/cache/epoch_file.h"

#include "gateway/cache/durable_file.h"
#include "gateway/cache/testing/store_fixture.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace mlxs::gateway {
namespace {

using Kind = FlushScope::Kind;

EpochState some_flushes() {
  EpochState state = new_epochs();
  state.flush({.kind = Kind::kTenant, .name = "ann \"the\" first\n"});
  state.flush({.kind = Kind::kModel, .name = "m"});
  state.flush({.kind = Kind::kKey, .digest = sha256("one")});
  return state;
}

TEST(EpochFile, WhatWasSavedIsLoadedByTheNextProcess) {
  const TemporaryFolder folder;
  const EpochFile file{folder.path() / "made" / "on demand"};
  Epochs epochs{some_flushes()};

  ASSERT_TRUE(file.save(epochs));

  const auto loaded = file.load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(*loaded, epochs.state());
}

TEST(EpochFile, WithoutAFileThereIsANewLineage) {
  const TemporaryFolder folder;

  const auto one = EpochFile{folder.path()}.load();
  const auto two = EpochFile{folder.path()}.load();

  ASSERT_TRUE(one && two);
  EXPECT_EQ(one->count, 0U);
  EXPECT_NE(one->lineage, two->lineage);
}

TEST(EpochFile, TwoProcessesThatShareAFolderKeepEachOthersFlushes) {
  const TemporaryFolder folder;
  const EpochFile file{folder.path()};
  Epochs ours{new_epochs()};
  Epochs theirs{new_epochs()};
  const Fingerprint subject = *fingerprint_of("x", "ann", "n");
  theirs.flush({.kind = Kind::kTenant, .name = "ann"});
  ASSERT_TRUE(file.save(theirs));
  const Stamp before = ours.now();
  ours.flush({.kind = Kind::kModel, .name = "m"});

  ASSERT_TRUE(file.save(ours));

  EXPECT_FALSE(ours.fresh(before, subject));
  EXPECT_EQ(file.load()->lineage, theirs.state().lineage);
  EXPECT_EQ(file.load()->models.count("m"), 1U);
}

TEST(EpochFile, AFlushAlsoCoversWhatAnotherProcessAdmittedBeforeIt) {
  const TemporaryFolder folder;
  const EpochFile file{folder.path()};
  Epochs theirs{new_epochs()};
  for (int i = 0; i < 5; ++i) theirs.flush({.kind = Kind::kModel, .name = "other"});
  ASSERT_TRUE(file.save(theirs));
  const Stamp of_their_entry = theirs.now();
  Epochs ours{new_epochs()};
  const FlushScope all{};
  ours.flush(all);

  ASSERT_TRUE(file.save(ours, all));

  const Epochs next{*file.load()};
  EXPECT_FALSE(next.fresh(of_their_entry, *fingerprint_of("x")));
}

TEST(EpochFile, EveryFlippedByteAndEveryTruncationIsNoticed) {
  const std::string text = to_text(some_flushes());
  ASSERT_TRUE(epochs_from_text(text));

  for (std::size_t at = 0; at < text.size(); ++at) {
    for (const char flip : {'\x01', '\x20', '\x7f'}) {
      std::string damaged = text;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      EXPECT_FALSE(epochs_from_text(damaged)) << at;
    }
    EXPECT_FALSE(epochs_from_text(std::string_view{text}.substr(0, at))) << at;
  }
}

TEST(EpochFile, ADamagedFileIsAnErrorOnceAndWrittenAnewByTheNextFlush) {
  const TemporaryFolder folder;
  const EpochFile file{folder.path()};
  std::ofstream{folder.path() / "epochs"} << "mlx-serving epochs 2 soon\n{}\n";
  EXPECT_EQ(file.load().error().code, ErrorCode::kCorruptFile);

  Epochs epochs{new_epochs()};
  ASSERT_TRUE(file.save(epochs));

  EXPECT_EQ(*file.load(), epochs.state());
}

TEST(EpochFile, AFolderThatCannotBeMadeIsAnErrorThatNamesIt) {
  const TemporaryFolder folder;
  std::ofstream{folder.path() / "file"} << "in the way";
  Epochs epochs{new_epochs()};

  const auto saved = EpochFile{folder.path() / "file" / "state"}.save(epochs);

  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().code, ErrorCode::kIo);
  EXPECT_NE(saved.error().message.find("file/state"), std::string::npos) << saved.error().message;
}

TEST(DurableFile, WithoutCommitTheOldFileStays) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "f";
  {
    auto file = DurableFile::create(path);
    ASSERT_TRUE(file && file->write("one") && file->commit());
  }
  {
    auto file = DurableFile::create(path);
    ASSERT_TRUE(file && file->write("two"));
  }

  EXPECT_EQ(*read_file(path, 10), "one");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator{folder.path()}, {}), 1);
  EXPECT_EQ(read_file(path, 2).error().code, ErrorCode::kIo);
  EXPECT_EQ(read_file(folder.path() / "g", 2).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace mlxs::gateway
