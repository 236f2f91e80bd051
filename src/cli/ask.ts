/** A question on the terminal; where there is none, the answer is no. */
import { createInterface } from "node:readline/promises";

/** `text` without the choice behind it. Only y and yes are a yes. */
export async function askYesNo(text: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await asking.question(`${text} [y/n]: `)).trim());
  } finally {
    asking.close();
  }
}
