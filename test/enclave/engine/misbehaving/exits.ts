/** Ends at once. */
process.exit(1);
