/** What a caller asked cannot be done; the message goes back to the caller. */
export class Rejected extends Error {}
