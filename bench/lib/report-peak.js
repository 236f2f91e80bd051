// Loaded by `node --import` before a program: tells its peak resident set in KiB on descriptor 3 when it ends.
import { writeSync } from "node:fs";

process.on("exit", () => writeSync(3, String(process.resourceUsage().maxRSS)));
