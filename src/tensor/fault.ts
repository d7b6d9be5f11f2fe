/** An error of the input, not of pith: one line that says where, what is wrong and what would be right. The command line prints it without a stack. */
export class Fault extends Error {
  readonly where: string;
  constructor(where: string, what: string, options?: ErrorOptions) {
    super(`${where}: ${what}`, options);
    this.name = "Fault";
    this.where = where;
  }
}
