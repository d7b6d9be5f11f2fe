/** Mails of our own making that the classifier in test/fixtures/spam has never seen. */
export const texts: readonly { readonly text: string; readonly label: "spam" | "ham" }[] = [
  {
    label: "spam",
    text: "You have been selected! Claim your free prize now, click here and enter your credit card number to receive $1000 cash.",
  },
  {
    label: "spam",
    text: "Lowest mortgage rates ever. Bad credit? No problem! Apply free today and save money every month. To be removed reply remove.",
  },
  {
    label: "spam",
    text: "Lose weight fast with our natural pills, guaranteed results or your money back. Order now, limited time offer!!!",
  },
  {
    label: "spam",
    text: "Make money from home. Earn thousands of dollars a week, no experience needed. This is not spam, call our toll free number.",
  },
  {
    label: "ham",
    text: "Re: build fails on Debian. The patch you sent applies cleanly, but make still stops in src with an undefined symbol. Which version of gcc do you use?",
  },
  {
    label: "ham",
    text: "On Tuesday Anna wrote: > I think the new mailing list should be moderated. I agree, let us discuss it at the meeting next week.",
  },
  {
    label: "ham",
    text: "Has anyone managed to get the sound card working with the latest kernel? The module loads but I get no output from xmms.",
  },
  {
    label: "ham",
    text: "The article about the election in yesterday's paper was interesting, I do not think the author understands how the courts work.",
  },
];
