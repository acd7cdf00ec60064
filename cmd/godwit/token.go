package main

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"
)

// userBytes is the longest user that a node lets in.
const userBytes = 128

func tokenCommand(env []string) *cobra.Command {
	var secret, file, user, audience, issuer string
	var ttl time.Duration
	var rooms []string
	c := &cobra.Command{
		Use:   "token",
		Short: "Mint an HS256 token, for tests and trials",
		Example: "  godwit token --user ann --secret-file secret.txt\n" +
			"  GODWIT_AUTH_SECRET=... godwit token --user ann --ttl 5m --rooms 'team/*'",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch vars := environment(env); {
			case secret != "" && file != "":
				return usage{errors.New("--secret and --secret-file: expected one of them")}
			case file != "":
				var err error
				if secret, err = secretIn(file); err != nil {
					return usage{fmt.Errorf("--secret-file: %w", err)}
				}
			case secret == "":
				if err := fromFile(vars, "GODWIT_AUTH_SECRET"); err != nil {
					return usage{err}
				}
				secret = vars["GODWIT_AUTH_SECRET"]
			}
			if secret == "" {
				return usage{errors.New("no key to sign with: give --secret, --secret-file or GODWIT_AUTH_SECRET")}
			}
			switch {
			case user == "":
				return usage{errors.New("no user: give --user")}
			case len(user) > userBytes || !utf8.ValidString(user):
				return usage{fmt.Errorf("--user: expected at most %d bytes of UTF-8", userBytes)}
			case ttl < time.Second:
				return usage{errors.New("--ttl: expected at least 1s")}
			}
			now := time.Now()
			claims := jwt.MapClaims{"sub": user, "iat": now.Unix(), "exp": now.Add(ttl).Unix()}
			if audience != "" {
				claims["aud"] = audience
			}
			if issuer != "" {
				claims["iss"] = issuer
			}
			if c.Flags().Changed("rooms") {
				claims["rooms"] = rooms
			}
			signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
			if err != nil {
				return fmt.Errorf("sign token: %w", err)
			}
			fmt.Fprintln(c.OutOrStdout(), signed)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&secret, "secret", "", "HS256 key; prefer --secret-file or GODWIT_AUTH_SECRET, which no process list shows")
	f.StringVar(&file, "secret-file", "", "file that holds the HS256 key")
	f.StringVar(&user, "user", "", "who the token speaks for (sub)")
	f.DurationVar(&ttl, "ttl", time.Hour, "how long the token is good")
	f.StringSliceVar(&rooms, "rooms", nil, "globs of the rooms that the user may join; absent: all")
	f.StringVar(&audience, "audience", "", "aud of the token")
	f.StringVar(&issuer, "issuer", "", "iss of the token")
	return c
}
