#include "train/profile/profile_files.h"

#include "core/system/file.h"
#include "core/system/folder.h"
#include "train/profile/profile_page.h"
#include "train/profile/trace_file.h"

namespace smoe {

void write_profile(const std::string& folder, const ProfiledRun& run,
                   const std::vector<Change>& changes, const std::string& old_path) {
  const Profile& profile = run.profile;
  make_folders(folder);
  write_file_atomically(folder + "/profile.json", profile_json(profile));
  write_file_atomically(folder + "/profile.html", profile_page(profile, changes, old_path));
  write_file_atomically(folder + "/trace.json.gz",
                        gzipped(trace_json(run.recording, profile.memory, profile.device)));
}

}  // namespace smoe
