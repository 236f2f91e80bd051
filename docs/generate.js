// npm run docs: writes the pages that are made from the code. `--check` writes nothing and fails when one is out of date.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { cliPage } from "./generate/cli.js";
import { errorsPage } from "./generate/errors.js";
import { layoutsPage } from "./generate/layouts.js";

const HERE = new URL("./", import.meta.url);

/** Every generated page: its name in this folder, and what makes its text from the code of now. */
export const PAGES = { "cli.md": cliPage, "errors.md": errorsPage, "layouts.md": layoutsPage };

/** The page as it lies in this folder, "" when it is missing. */
export function writtenPage(name) {
  const path = new URL(name, HERE);
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

async function main(check) {
  let stale = 0;
  for (const [name, make] of Object.entries(PAGES)) {
    const text = await make();
    if (writtenPage(name) === text) continue;
    stale++;
    if (check) console.error(`docs/${name} is out of date; run 'npm run docs'`);
    else {
      writeFileSync(new URL(name, HERE), text);
      console.log(`docs/${name} written`);
    }
  }
  return check && stale > 0 ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href)
  process.exitCode = await main(process.argv.includes("--check"));
