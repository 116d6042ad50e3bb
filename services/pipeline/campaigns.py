"""The side table of the pipeline's story: which campaign an ad belongs to.

Owns: campaigns, AD_COUNT.
Never: a change while the pipeline runs; the table is part of the job.
"""

AD_COUNT = 1_000
ADS_PER_CAMPAIGN = 10


def campaigns() -> dict[str, str]:
    """The campaign of each ad.

    Example:
        >>> campaigns()["ad-0123"]
        'campaign-12'
    """
    return {f"ad-{ad:04d}": f"campaign-{ad // ADS_PER_CAMPAIGN:02d}" for ad in range(AD_COUNT)}
