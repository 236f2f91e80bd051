// Sums vitest's JSON reports: names what failed or was skipped, ends with one line "N passed, N failed, N skipped".
// Exit code 1 when anything failed or a report is missing.
import { readFileSync } from "node:fs";
import { relative } from "node:path";

const totals = { passed: 0, failed: 0, skipped: 0 };
const notes = [];

for (const path of process.argv.slice(2)) {
  const report = load(path);
  if (!report) {
    notes.push(`no report: ${path}`);
    continue;
  }
  for (const file of report.testResults) count(file, path);
}

function load(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

function count(file, path) {
  const name = relative(process.cwd(), file.name);
  let failedHere = 0;
  for (const test of file.assertionResults) {
    if (test.status === "passed") totals.passed++;
    else if (test.status === "failed") {
      failedHere++;
      notes.push(`failed (${path}): ${name}: ${test.fullName}`);
    } else {
      totals.skipped++;
      notes.push(`skipped (${path}): ${name}: ${test.fullName}`);
    }
  }
  // A file that could not be loaded, or whose hook failed, has no failed test of its own.
  if (file.status === "failed" && failedHere === 0) {
    failedHere = 1;
    notes.push(`failed (${path}): ${name}: ${String(file.message).split("\n")[0]}`);
  }
  totals.failed += failedHere;
}

const missing = notes.some((note) => note.startsWith("no report"));
for (const note of notes) console.log(note);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed > 0 || totals.passed === 0 || missing ? 1 : 0;
