// docs/errors.md: the closed list of codes from src/errors.ts, and what becomes of the operating system's errors.
import { readFileSync } from "node:fs";
import { exitCode } from "../../dist/cli/report.js";
import { DiskError, fromErrno } from "../../dist/errors.js";
import { page, table } from "./page.js";

const SOURCE = readFileSync(new URL("../../src/errors.ts", import.meta.url), "utf8");

export async function errorsPage() {
  return page("Errors", "`src/errors.ts`", [
    "Everything that can go wrong with a disk, a peer or a request is a `DiskError` with one of these codes. Misuse of the API is `TypeError` or `RangeError`. " +
      "Its text has the form `Cannot <verb> <object>: <found>, <allowed> (<where>)`; `details` holds the same facts for programs.",
    "## Codes",
    table(
      ["Code", "Meaning", "Exit code of `xvd`"],
      errorCodes().map(({ code, meaning }) => [`\`${code}\``, meaning, exitCode(new DiskError(code, ""))]),
    ),
    "Wrong usage of the command line ends with exit code 2, and its code with `--json` is `USAGE`; `compare` and `check` have exit codes of their own, see their help. With `--json` an error is one document on stderr: " +
      '`{"error":{"code","message","details"}}`.',
    "## The operating system's errors",
    table(
      ["errno", "Becomes", "Told as"],
      systemErrors().map((errno) => [`\`${errno}\``, ...retold(errno)]),
    ),
    "Any other errno becomes `IO`, with the system's own text.",
  ]);
}

/** Members of the union `ErrorCode`, each with the comment above it. */
export function errorCodes(source = SOURCE) {
  const union = /export type ErrorCode =([\s\S]*?);/.exec(source)?.[1];
  if (!union) throw new Error("src/errors.ts has no union ErrorCode");
  const members = [...union.matchAll(/(?:\/\*\*\s*([\s\S]*?)\s*\*\/\s*)?\|\s*"(\w+)"/g)];
  return members.map(([, meaning, code]) => {
    if (!meaning) throw new Error(`src/errors.ts does not say what ${code} means`);
    return { code, meaning: meaning.replace(/\s*\n\s*\*\s*/g, " ") };
  });
}

/** Every errno that the two tables of src/errors.ts name. */
function systemErrors() {
  return [...new Set([...SOURCE.matchAll(/^ {2}(E[A-Z0-9]+): "/gm)].map(([, errno]) => errno))].sort();
}

function retold(errno) {
  const error = fromErrno("X", Object.assign(new Error(errno), { code: errno }));
  return [`\`${error.code}\``, error.message.replace("Cannot X: ", "")];
}
