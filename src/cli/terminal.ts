/** Where the command line prints: results to stdout, all else to stderr. */

/** A result, with a newline. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

const styled = (open: number, close: number) => (text: string) =>
  process.stdout.isTTY && !process.env.NO_COLOR ? `\u001b[${open}m${text}\u001b[${close}m` : text;

export const bold = styled(1, 22);
export const dim = styled(2, 22);
