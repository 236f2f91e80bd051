// Which peers are installed.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export function havePrograms(names, say) {
  const missing = names.filter((name) => !isInstalled(name));
  if (missing.length > 0) say(`${missing.join(", ")} not found; test/support/install-peers.sh installs the peers`);
  return missing.length === 0;
}

function isInstalled(name) {
  return process.env.PATH.split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
